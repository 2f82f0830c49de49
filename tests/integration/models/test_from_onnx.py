"""Weights from an ONNX file: those that are shipped against onnxruntime, and small files with faults."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from transformers import BertConfig, BertModel

from lrtl_utils.config import RunConfig
from lrtl_utils.errors import InputError
from lrtl_utils.models import catalog, from_onnx
from lrtl_utils.models.build import build

TEXTS = ["Shares fell.", "The minister said, after many people left, that the embassy was a film.", "a film " * 60]
KEY = "encoder.layer.0.attention.self.key"
HIDDEN, POOLED = "onnx::Shape_422", "461"  # outputs of the shipped file


def test_features_of_the_shipped_encoder_are_those_of_onnxruntime():
    source = catalog.find("minilm_l3")
    model = build(RunConfig(model="minilm_l3"), "text", 4, source).eval()
    rows = model.reader.encode(TEXTS, [0, 1, 2])
    batch = model.reader.batch(rows, np.arange(len(TEXTS)))
    given = {"input_ids": batch["ids"].numpy(), "attention_mask": batch["mask"].numpy().astype(np.int64)}
    assert len(set(given["attention_mask"].sum(1))) == len(TEXTS)  # padded to the longest
    hidden, pooled = onnxruntime.InferenceSession(source.files[0]).run([HIDDEN, POOLED], given)
    with torch.no_grad():
        features = model.features(batch)
        found = model.backbone(input_ids=batch["ids"], attention_mask=batch["mask"]).last_hidden_state
    np.testing.assert_allclose(features.numpy(), pooled, atol=1e-4)
    own = given["attention_mask"].astype(bool)
    np.testing.assert_allclose(found.numpy()[own], hidden[own], atol=1e-4)
    assert np.abs(pooled).max() > 0.1


@pytest.fixture
def net():
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    return BertModel(BertConfig(vocab_size=20, max_position_embeddings=10, **sizes))


def write(path, net, *, without=(), extra=()):
    """The weights of `net` as the exporter leaves them, but for the names in `without`, and with those in `extra`."""
    tensors, nodes = [numpy_helper.from_array(np.ones(3, np.float32), name) for name in extra], []
    for name, weight in net.state_dict().items():
        if name.startswith(from_onnx.POOLER) or name in without:
            continue
        named = from_onnx.PREFIX + name
        if isinstance(net.get_submodule(name.rpartition(".")[0]), torch.nn.Linear) and name.endswith("weight"):
            bias, named, weight = f"{named.removesuffix('weight')}bias", f"onnx::MatMul_{len(tensors)}", weight.T
            terms = [f"{named}_product", bias][:: 1 if len(nodes) % 4 else -1]  # either order
            nodes.append(helper.make_node("MatMul", ["x", named], [f"{named}_product"]))
            nodes.append(helper.make_node("Add", terms, [f"{named}_sum"]))
        tensors.append(numpy_helper.from_array(weight.numpy().copy(), named))
    onnx.save(helper.make_model(helper.make_graph(nodes, "encoder", [], [], tensors)), path)
    return path


def test_every_weight_but_the_pooler_s_is_read(net, tmp_path):
    path = write(tmp_path / "encoder.onnx", net)
    other = BertModel(net.config)
    pooler = other.pooler.dense.weight.clone()
    from_onnx.load(other, path)
    assert torch.equal(other.pooler.dense.weight, pooler)
    for name, weight in net.state_dict().items():
        if not name.startswith(from_onnx.POOLER):
            assert torch.equal(other.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("faulty", "first", "more"),
    [
        ({"without": ["encoder.layer.1.output.dense.weight"]}, "encoder.layer.1.output.dense.weight", ""),
        ({"without": ["embeddings.LayerNorm.bias"]}, "embeddings.LayerNorm.bias", ""),
        ({"extra": ["onnx::MatMul_999"]}, "onnx::MatMul_999", ""),
        # A product without its bias has no name.
        ({"without": [f"{KEY}.bias"]}, f"{KEY}.bias", r" \(and 2 more\)"),
    ],
)
def test_a_weight_that_is_missing_or_left_over_is_named(net, tmp_path, faulty, first, more):
    path = write(tmp_path / "encoder.onnx", net, **faulty)
    kept = {name: weight.clone() for name, weight in net.state_dict().items()}
    with pytest.raises(InputError, match=f"does not fit the model: {first}{more} is missing, unknown or of"):
        from_onnx.load(net, path)
    assert all(torch.equal(weight, kept[name]) for name, weight in net.state_dict().items())


def test_a_weight_of_another_shape_is_named(net, tmp_path):
    path = write(tmp_path / "encoder.onnx", net)
    wider = BertModel(BertConfig(**net.config.to_dict() | {"vocab_size": 21}))
    with pytest.raises(InputError, match=r"model: embeddings\.word_embeddings\.weight is missing, unknown or"):
        from_onnx.load(wider, path)

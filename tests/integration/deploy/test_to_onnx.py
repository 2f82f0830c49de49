"""A saved model as ONNX gives the model's answers in onnxruntime, and says how many of them in int8."""

import csv
import logging
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from whole_run import run

from lrtl_utils.deploy import export, to_onnx
from lrtl_utils.deploy import predict as scoring
from lrtl_utils.errors import InputError
from lrtl_utils.files import ROOT
from lrtl_utils.measure.metrics import PREDICT_BATCH
from lrtl_utils.models.encoding import by_length, decode_image

SHORT = {"max_length": 16, "test_limit": 4, "precision": "fp32"}
TEXT = {"dataset": "reviews_sample", "train_size": 16, **SHORT}
TOKENS = {"dataset": "entities_sample", "train_size": 16, "epochs": 1, **SHORT, "max_length": 48}
IMAGE = {"dataset": "digits", "train_size": 20, "image_size": 32, "test_limit": 4, "precision": "fp32"}
CASES = {
    "top_layer": {"model": "roberta_base", "method": "linear_probe", "layers": 1, **TEXT},
    "layers": {"model": "bert_base", "method": "linear_probe", "layers": 3, **TEXT},
    "own_head": {"model": "distilbert", "method": "conventional", "epochs": 1, **TEXT},
    "crf_shapes_layers": {"model": "bert_crf", "method": "full", "layers": 2, "word_shape": True, **TOKENS},
    "stages": {"model": "efficientnet_lite0", "method": "linear_probe", "layers": 3, **IMAGE},
    "pixels": {"model": "simple_nn", "method": "from_scratch", "epochs": 1, **IMAGE},
}


@pytest.fixture(scope="module")
def saved(mirror, tmp_path_factory):
    """Saves the model of a case; returns its folder and the test examples."""
    folder = tmp_path_factory.mktemp("saved")

    def save(name, knobs):
        model, path, data, *_ = run(folder / "results", **knobs)
        return export.save(model, data.classes, path, folder / name), data.test

    return save


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_gives_the_model_s_scores_for_batches_of_any_shape(name, saved):
    folder, test = saved(name, CASES[name])
    written = to_onnx.write(folder)
    assert (written.path, written.equal, written.rows) == (folder / "model.onnx", 1.0, to_onnx.SAMPLE_ROWS)
    assert written.difference < to_onnx.TOLERANCE
    kept = export.load(folder)
    session = onnxruntime.InferenceSession(written.path)
    assert session.get_modelmeta().custom_metadata_map["labels"].splitlines() == list(kept.classes)
    data = kept.model.reader.encode(test.inputs[:40], test.targets[:40])
    for positions in ([7], *by_length(data.lengths, PREDICT_BATCH)):
        batch = kept.model.reader.batch(data, positions)
        given = {to_onnx.INPUTS[key][0]: value.numpy() for key, value in batch.items() if key in to_onnx.INPUTS}
        expected = kept.model(batch).detach().numpy()
        np.testing.assert_allclose(session.run(None, given)[0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["layers", "crf_shapes_layers"])
def test_int8_is_smaller_and_its_equal_answers_are_counted(name, saved):
    folder, _ = saved(name, CASES[name])
    small, whole = to_onnx.write(folder, int8=True), to_onnx.write(folder)
    to_onnx.write(folder, int8=True)  # over its own file
    assert small.path == folder / "model.int8.onnx"
    assert small.path.stat().st_size < whole.path.stat().st_size
    assert 0.3 < small.equal <= 1
    assert small.difference > whole.difference
    assert f"{small.equal:.1%} of the answers" in small.lines()[0]


def test_warnings_are_logged_again_after_a_failure_in_int8(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(Exception, match=r"model\.onnx"):
        to_onnx._quantized(tmp_path / "model.onnx")
    assert logging.root.isEnabledFor(logging.WARNING)


def test_given_rows_are_compared_and_the_command_prints_what_it_found(saved, tmp_path, call):
    folder, _ = saved("own_head", CASES["own_head"])
    (tmp_path / "rows.csv").write_text("text\nA moving film.\nDull and lifeless.\n")
    done = call("export", folder, tmp_path / "out/reviews.onnx", "--onnx", "--rows", tmp_path / "rows.csv")
    assert done.returncode == 0, done.stderr
    answers, speed, size, path = done.stdout.splitlines()
    assert answers.startswith(
        f"On 2 rows of {tmp_path / 'rows.csv'}, 100.0% of the answers are the same as the model's"
    )
    assert re.search(r"onnxruntime is \d+\.\d\d times as fast as torch \(CPU, 1 thread\)\.$", speed)
    assert re.fullmatch(r"The file is \d+\.\d MB\.", size)
    assert path == str(tmp_path / "out/reviews.onnx")


def test_a_file_whose_answers_differ_is_not_written(saved, monkeypatch):
    folder, _ = saved("pixels", CASES["pixels"])
    monkeypatch.setattr(to_onnx, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match=r"was not written: on digits, a score of onnxruntime differs"):
        to_onnx.write(folder)
    assert not [path for path in folder.rglob("*") if "onnx" in path.name]


def test_a_file_that_holds_something_else_stays(saved, tmp_path):
    folder, _ = saved("pixels", CASES["pixels"])
    file = to_onnx.write(folder, tmp_path / "model.onnx").path
    to_onnx.write(folder, file)  # what it wrote itself
    graph = onnx.load(file)
    del graph.metadata_props[:]
    for content in (graph.SerializeToString(), b"nothing of the kind"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"no model that this project exported, so it is not overwritten"):
            to_onnx.write(folder, file)
        assert file.read_bytes() == content


def test_a_model_that_is_larger_than_the_format_allows_is_refused(saved, monkeypatch):
    folder, _ = saved("pixels", CASES["pixels"])
    monkeypatch.setattr(to_onnx, "MOST_BYTES", 10**5)
    with pytest.raises(InputError, match=r"take 0\.\d+ GB, and an ONNX file holds at most 2"):
        to_onnx.write(folder)
    assert not [path for path in folder.rglob("*") if "onnx" in path.name]


def test_what_has_no_graph_or_no_rows_is_refused(saved, tmp_path):
    folder, _ = saved("tfidf", {"method": "tfidf", "dataset": "reviews_sample", "train_size": 16, "test_limit": 4})
    with pytest.raises(InputError, match="reads counts of words"):
        to_onnx.write(folder)
    with pytest.raises(InputError, match="Image models lose too much"):
        to_onnx.write(saved("stages", CASES["stages"])[0], int8=True)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        to_onnx.write(saved("own_head", CASES["own_head"])[0], rows=tmp_path / "absent.csv")


@pytest.mark.parametrize(("block", "name"), enumerate(["layers", "crf_shapes_layers", "stages"]))
def test_the_page_s_code_gives_the_answers_of_predict(block, name, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/export.md").read_text(), flags=re.M | re.S)[block]
    folder, test = saved(name, CASES[name])
    (tmp_path / "my").mkdir()
    (tmp_path / "my/model").symlink_to(folder)
    inputs = ["my/texts.txt", "my/sentence.txt", "my/picture.png"][block]
    if name == "stages":
        decode_image(test.inputs[0]).resize((32, 32)).save(inputs)
    else:
        (tmp_path / inputs).write_text("\n".join(re.findall(r'"(.+?[.])"', code.partition("tokenizer(")[0])))
    to_onnx.write("my/model")
    scope = {}
    exec(code, scope)
    with scoring.predict("my/model", inputs, "my/answers.csv").open() as stream:
        answers = [row.get("label") or row["tags"].split() for row in csv.DictReader(stream)]
    assert scope["answers"] == answers

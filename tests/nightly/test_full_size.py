"""The plan's models have the sizes that are published: on architectures without weights, and, slowly, with them."""

import pytest
from full_size import PIXELS, PUBLISHED, run, table

from lrtl_utils.config import RunConfig
from lrtl_utils.methods import loop as training
from lrtl_utils.models.build import build as build_model
from lrtl_utils.models.catalog import MODELS

# What is not in a model here: BERT's and RoBERTa's pooler, and the classifier of 1,000 classes.
LEFT_OUT = {"bert_base": 768 * 769, "roberta_base": 768 * 769, "bert_crf": 768 * 769}
LEFT_OUT |= {"resnet50": 2049 * 1000, "efficientnet_b0": 1281 * 1000}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    import torch

    parameters, pairs, _ = PUBLISHED[name]
    with torch.device("meta"):
        model = build_model(RunConfig(model=name, image_size=PIXELS), MODELS[name].kinds[0], 2, None)
    counted = sum(weight.numel() for weight in model.backbone.parameters()) + LEFT_OUT.get(name, 0)
    assert counted == pytest.approx(parameters, rel=0.02)
    if pairs:
        flops = training.pass_counter(model, head=True)((1, 3, PIXELS, PIXELS))
        assert flops == pytest.approx(2 * pairs, rel=0.02)


@pytest.mark.slow
def test_every_model_takes_a_step_of_every_method_at_full_size(tmp_path):
    found = run(list(PUBLISHED), tmp_path / "lines.jsonl")
    for name, (parameters, pairs, _) in PUBLISHED.items():
        lines = {line["method"]: line for line in found if line["model"] == name}
        assert set(lines) >= {"from_scratch", "conventional", "full", "linear_probe", "lp_ft", "bitfit", "lora"}
        assert lines["full"]["checkpoint_parameters"] == pytest.approx(parameters, rel=0.02)
        assert lines["progressive"]["rung"] == 1
        assert any("cached" in phase for phase in lines["progressive"]["flops_by_phase"])
        assert lines["bitfit"]["step_flops"] < lines["conventional"]["step_flops"]
        assert lines["lora"]["trained"] < 0.15 * lines["full"]["trained"]
        if pairs:
            assert lines["full"]["forward_flops_a_row"] == pytest.approx(2 * pairs, rel=0.02)
    assert all(f"`{name}`" in table(found) for name in PUBLISHED)

"""The six models of the original plan at their real size, with random weights: each takes a step of every method.

`python tests/support/full_size.py` writes docs/full_size.jsonl, one line for each run, and the tables of
docs/full_size.md. It shows that the models load, fit into memory and train, and it counts FLOPs. Random weights say
nothing about scores.
"""

import argparse
import json
import math
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

ROWS = 4  # of a batch
TOKENS, PIXELS = 32, 224
CACHED_ROWS = {"text": 32, "image": 64, "tokens": 8}  # from which the ladder trains a rung
DOCS = Path(__file__).resolve().parents[2] / "docs"
# Parameters, and multiply-adds of one forward pass, as published; a multiply-add is two FLOPs here.
PUBLISHED = {
    "bert_base": (110e6, None, "Devlin et al. 2019"),
    "roberta_base": (125e6, None, "Liu et al. 2019"),
    "distilbert": (66e6, None, "Sanh et al. 2019"),
    "bert_crf": (110e6, None, "Devlin et al. 2019"),
    "resnet50": (25.6e6, 4.1e9, "He et al. 2016; multiply-adds at 224 px as timm's and torchvision's tables have them"),
    "efficientnet_b0": (5.3e6, 0.39e9, "Tan & Le 2019"),
}


def write_model(mirror: Path, name: str) -> int:
    """The checkpoint of `name`, random and whole, where a mirror has it; returns its parameters as published counts."""
    import timm
    import torch
    import transformers
    from checkpoints import _byte_pairs, _wordpieces
    from timm.models import save_for_hf

    from lrtl_utils.models.catalog import MODELS

    torch.manual_seed(0)
    row = MODELS[name]
    folder = mirror / "models" / row.hub
    if row.library == "timm":
        net = timm.create_model(row.timm_name, pretrained=False)
        save_for_hf(net, folder, safe_serialization=True)
    else:
        kind, sizes = row.architecture
        config = transformers.AutoConfig.for_model(kind, **sizes)
        net = transformers.AutoModel.from_config(config)
        net.save_pretrained(folder)
        if kind == "roberta":
            tokenizer = _byte_pairs()
        else:
            lower = "uncased" in row.hub
            vocabulary = _wordpieces(lower)
            unused = {f"[unused{i}]": i for i in range(len(vocabulary), config.vocab_size)}
            tokenizer = transformers.BertTokenizerFast(vocab=vocabulary | unused, do_lower_case=lower)
        tokenizer.save_pretrained(folder)
    return sum(weight.numel() for weight in net.parameters())


def take_step(name: str, method: str) -> dict[str, Any]:
    """One run: a step of `method`, or for the ladder an epoch above cached blocks; what it needed."""
    from lrtl_utils.methods import VERSIONS
    from lrtl_utils.methods import loop as training
    from lrtl_utils.models.catalog import MODELS
    from lrtl_utils.runs.run import Run

    kind = MODELS[name].kinds[0]
    cached = method == "progressive"
    knobs = {
        "text": {"dataset": "news_sample", "max_length": TOKENS},
        "image": {"dataset": "digits", "image_size": PIXELS},
        "tokens": {"dataset": "entities_sample", "max_length": TOKENS},
    }
    rows = CACHED_ROWS[kind] if cached else ROWS * 2  # of which each class must have one
    rows = max(rows, {"text": 4, "image": 12, "tokens": 5}[kind])
    one_step = {"batch_size": rows, "epochs": 1} if not cached else {"batch_size": ROWS * 2, "epochs": 1}
    with tempfile.TemporaryDirectory() as folder:
        done = Run(model=name, method=method, train_size=rows, results=folder, **knobs[kind], **one_step)
        done.fit(*done.label())
    shape = (1, 3, PIXELS, PIXELS) if kind == "image" else (1, TOKENS, TOKENS)[: 3 if kind == "tokens" else 2]
    forward = training.pass_counter(done.model, head=True)(shape)
    cost = done.meter.report(len(done.train), 1.0, 1)
    phases = cost["flops_by_phase"]
    named = any(point.get("names_fit") for point in done.curve)  # for the ladder, each name is several examples more
    seen = len(done.train) + (training.NAME_COPIES * len(done.data.classes) if cached and named else 0)
    steps = math.ceil(seen / done.config.batch_size) if done.config.epochs else 0
    described = done.describe_model()
    return {
        "model": name,
        "method": method,
        "version": VERSIONS[method],
        "rows": len(done.train),
        "steps": steps,
        "parameters": described["parameters"],
        "trained": described["trainable_parameters"],
        "forward_flops_a_row": forward,
        "step_flops": sum(n for phase, n in phases.items() if phase.startswith("step")) // max(steps, 1),
        "flops": cost["flops"],
        "flops_by_phase": phases,
        "peak_memory_mib": round(cost["peak_memory_mib"], 1),
        "device_seconds": round(cost["device_seconds"], 2),
        "rung": done.curve[-1].get("rung"),
    }


def run(names: list[str], lines: Path) -> list[dict[str, Any]]:
    """Every method that each model can have, each in a process of its own; appends to `lines` as it goes."""
    from lrtl_utils.methods import METHODS
    from lrtl_utils.models.catalog import MODELS

    found = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LRTL_MIRROR"] = folder
            checkpoint = _apart(write_model, Path(folder), name)
            for method, row in METHODS.items():
                if row.needs_model and set(MODELS[name].kinds) & set(row.kinds):
                    found.append(_apart(take_step, name, method) | {"checkpoint_parameters": checkpoint})
                    with lines.open("a") as stream:
                        stream.write(json.dumps(found[-1]) + "\n")
    return found


def _apart(work: Any, *given: Any) -> Any:
    """In a process of its own, so that its peak of memory is its own; forked, so that the libraries load once."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, given)


def table(found: list[dict[str, Any]]) -> str:
    """The page: counts against what is published, then what a step of each method took."""
    by_model = {name: [line for line in found if line["model"] == name] for name in PUBLISHED}
    lines = [
        "# Do the models of the original plan work at full size?",
        "",
        "In part: with random weights, models of their size and layout load and train for a few steps. Neither their",
        "published weights nor the original plan's batches and lengths were tried.",
        "`python tests/support/full_size.py` makes this page. It gives each model random weights at its size, then",
        "runs every method that uses a model, most for one step, on shipped",
        f"data: texts cut to {TOKENS} tokens, images at {PIXELS} px, one CPU thread. Random weights say nothing about",
        "scores.",
        "",
        "A multiply-add counts as two FLOPs here, and as one in the published figures. Peak memory is what the run",
        "used beyond what the process had when the clock started, so weights that were loaded before are not in it.",
        "The seconds were measured on a shared machine.",
        "",
        "| model | parameters, counted | published | forward FLOPs, counted | published | source |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in by_model.items():
        parameters, pairs, source = PUBLISHED[name]
        if runs:
            stated = f"2 × {pairs / 1e9:g} G" if pairs else "–"
            counted = runs[0]["forward_flops_a_row"]
            lines.append(
                f"| `{name}` | {runs[0]['checkpoint_parameters'] / 1e6:.1f} M | {parameters / 1e6:g} M "
                f"| {counted / 1e9:.2f} G | {stated} | {source} |"
            )
    lines += ["", "Forward FLOPs are those of one image, or of one text of that length.", ""]
    lines += ["| model | method | rows | trained | FLOPs a step | FLOPs in all | peak memory, MiB | seconds |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for line in (line for runs in by_model.values() for line in runs):
        what = f"{line['steps']} step{'s' * (line['steps'] != 1)}" if line["steps"] else "no step"
        what = f"{what} above cached blocks" if line["rung"] else what
        step = f"{line['step_flops'] / 1e9:.0f} G" if line["steps"] else "–"
        lines.append(
            f"| `{line['model']}` | `{line['method']}`, {what} | {line['rows']} | {line['trained'] / 1e6:.2f} M "
            f"| {step} | {line['flops'] / 1e9:.0f} G | {line['peak_memory_mib']:.0f} | {line['device_seconds']:.1f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(PUBLISHED), help="names of MODELS; all without any")
    parser.add_argument("--lines", type=Path, default=DOCS / "full_size.jsonl")
    parser.add_argument("--page", type=Path, default=DOCS / "full_size.md")
    given = parser.parse_args()
    given.lines.unlink(missing_ok=True)
    given.page.write_text(table(run(given.models, given.lines)), encoding="utf-8")
    print(given.page)


if __name__ == "__main__":
    main()

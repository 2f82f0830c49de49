"""Other tools on the same draws, on the same clock, with records of the same schema: `python -m` this module RESULTS.

For each record of `linear_probe` on texts with all-MiniLM-L6-v2 in that folder, every peer runs with the same data,
labels and seed, unless its record is there already. `make peers RESULTS=…` does so in an environment that has SetFit.
Each peer counts as a method here. The command line does not know it, and a sweep cannot run it.
"""

import copy
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import setfit
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import normalize

from lrtl_utils.config import SIZES, RunConfig
from lrtl_utils.data import load, splits
from lrtl_utils.files import absolute_path
from lrtl_utils.methods import METHODS, VERSIONS, loop
from lrtl_utils.methods.method import Curve, Method, Work
from lrtl_utils.models.catalog import find
from lrtl_utils.models.heads import take_over
from lrtl_utils.runs import store
from lrtl_utils.runs.run import Run

MODEL, BESIDE = "minilm", "linear_probe"
MOST_PAIRS = 16_000  # a run of SetFit on more is left out, because it takes many minutes on a laptop
ITERATIONS = 20  # of SetFit's paper: so many pairs of one class, and of two, for each example
STEPS = {"epochs": 1, "learning_rate": 2e-5}  # SetFit's own defaults


class Normalised(torch.nn.Linear):
    """A linear head on features of length 1, as sentence-transformers gives them for this model."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(normalize(features, dim=-1))


def fit_setfit(work: Work, iterations: int | None) -> Curve:
    """SetFit with its defaults (Tunstall et al. 2022, arXiv 2209.11055), or with so many pairs for each example."""
    body = _body(work, frozen=0)
    model = setfit.SetFitModel(model_body=body, model_head=LogisticRegression())  # what `from_pretrained` makes
    given = {"num_iterations": iterations, "seed": work.config.seed, "num_epochs": work.config.epochs}
    given |= {"body_learning_rate": work.config.learning_rate}
    silent = {"save_strategy": "no", "report_to": "none", "show_progress_bar": False}
    examples = Dataset.from_dict({"text": list(work.train.inputs), "label": list(work.train.targets)})
    with tempfile.TemporaryDirectory() as folder:
        arguments = setfit.TrainingArguments(output_dir=folder, **given, **silent)
        setfit.Trainer(model=model, args=arguments, train_dataset=examples).train()
    return _taken_over(work, body, model.model_head)


def fit_probe(work: Work) -> Curve:
    """MTEB's classifier: scikit-learn's logistic regression on frozen embeddings (Muennighoff et al. 2023)."""
    body = _body(work, frozen=len(work.model.blocks))
    solver = LogisticRegression(random_state=work.config.seed, max_iter=100)
    solver.fit(body.encode(list(work.train.inputs), show_progress_bar=False), work.train.targets)
    return _taken_over(work, body, solver)


def peer(fit: Callable[[Work], Curve], **settings: Any) -> Method:
    """A method for texts with these settings, of which nothing is tuned."""

    def defaults(kind: str, backbone: Any, n_labels: int) -> dict[str, Any]:
        return {"validation_share": 0.0, "precision": "fp32", **settings}

    return Method(fit, defaults, kinds=("text",))


PEERS = {
    "setfit": peer(partial(fit_setfit, iterations=None), **STEPS),
    "setfit_20": peer(partial(fit_setfit, iterations=ITERATIONS), **STEPS),
    "mteb_probe": peer(fit_probe),
}
METHODS.update(PEERS)
VERSIONS.update(dict.fromkeys(PEERS, 1))


def pairs(method: str, labels: Sequence[int]) -> int:
    """How many pairs of texts SetFit trains on; none for another peer.

    By default each pair of two classes comes once, and pairs of one class come as often, or the other way round.
    """
    if method == "setfit_20":
        return 2 * ITERATIONS * len(labels)
    counts, n = np.unique(labels, return_counts=True)[1], len(labels)
    alike = int(sum(counts * (counts + 1) // 2))
    return 2 * max(alike, n * (n + 1) // 2 - alike) if method == "setfit" else 0


@cache
def pretrained() -> SentenceTransformer:
    """The model as sentence-transformers loads it, off the clock; its file says that it reads 256 tokens."""
    return SentenceTransformer(str(find(MODEL).reading_folder), device="cpu")


def _body(work: Work, frozen: int) -> SentenceTransformer:
    """A fresh copy, whose passes are tallied from now on by the shapes of their batches; so many blocks are frozen."""
    body = copy.deepcopy(pretrained())
    work.model.freeze(frozen)
    work.meter.register("step", loop.step_counter(work.model, cached=False))
    work.meter.register("features", loop.pass_counter(work.model, head=False))

    def tally(module: torch.nn.Module, given: tuple[dict[str, torch.Tensor], ...]) -> None:
        phase = "step" if torch.is_grad_enabled() and module.training else "features"
        work.meter.tally(phase, tuple(given[0]["input_ids"].shape))

    body[0].register_forward_pre_hook(tally)
    return body


def _taken_over(work: Work, body: SentenceTransformer, solver: LogisticRegression) -> Curve:
    """Give the adapted weights and the solved head to this package's model, which then predicts the test split."""
    work.model.backbone.load_state_dict(body[0].auto_model.state_dict())
    work.model.head = Normalised(solver.coef_.shape[1], len(work.data.classes))
    take_over(work.model.head, solver)
    work.model.reader.max_length = body.max_seq_length
    return [loop.only_point(work, None)]


def due(results: Path) -> Iterator[tuple[str, RunConfig]]:
    """What is to run: each peer with the data, labels and seed of each record of `linear_probe` on texts.

    Those with few labels come first, because the time of SetFit grows with the square of their number.
    """
    kept = (*load.READING, "model", *SIZES, "seed", "test_limit")
    for record in sorted(store.records(results, "completed"), key=lambda record: record["data"]["train_size"]):
        config = store.placed(results, record)["config"]
        given = {name: config[name] for name in kept if config.get(name) is not None}
        if (config["method"], config["model"]) == (BESIDE, MODEL):
            yield from ((peer, RunConfig(**given, method=peer, device="cpu")) for peer in PEERS)


def main(results: Path) -> None:
    """Run what has no record yet, and print a line for each."""
    for peer, config in due(results):
        run = Run(config, results=results)
        if store.is_completed(run.path):
            continue
        if (found := pairs(peer, splits.labelled(run.data, run.config)[0].targets)) > MOST_PAIRS:
            print(f"{peer} on {config.dataset}, seed {config.seed}, is left out: it has {found} pairs.", flush=True)
            continue
        pretrained()
        run.fit(*run.label())
        record = run.record(run.test())
        print(
            f"{run.path}: {record['metrics']['accuracy']:.3f} in {record['cost']['device_seconds']:.1f} s", flush=True
        )


if __name__ == "__main__":
    main(absolute_path(sys.argv[1]))

"""What share of the machine's speed a training step reaches: `python tests/support/steps.py` prints a table.

Words after it choose among the kinds.

The speed is that of plain matrix products of the same shapes as those that the step does, one after another, on the
same threads, and in turn with it, so that what else the machine does falls on both. A convolution counts as the
product that it amounts to; a depthwise one has no such product of its own, and is not among them.
"""

import os
import statistics
import sys
import tempfile
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lrtl_utils.measure.flops import count_flops
from lrtl_utils.methods import METHODS, loop, progressive
from lrtl_utils.methods.feature_cache import Cache
from lrtl_utils.runs.run import Run

ROUNDS = 5
KINDS = {
    "text": {"dataset": "news_sample", "model": "minilm", "max_length": 64},
    "tokens": {"dataset": "entities_sample", "model": "minilm_crf", "max_length": 64},
    "image": {"dataset": "digits", "model": "efficientnet_lite0", "image_size": 64},
}
TRAINED = ("conventional", "full", "lp_ft", "bitfit", "lora")
ROWS = 16


class Products(TorchDispatchMode):
    """Collects the matrix products of a block as (rows, inner, columns, how many)."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        output, aten = operation(*args, **kwargs or {}), torch.ops.aten
        kind = operation._overloadpacket
        if kind in (aten.mm, aten.addmm):
            first, second = args[-2:]
            self.found.append((first.shape[0], first.shape[1], second.shape[1], 1))
        elif kind in (aten.bmm, aten.baddbmm):
            first, second = args[-2:]
            self.found.append((first.shape[1], first.shape[2], second.shape[2], first.shape[0]))
        elif kind is aten.convolution and args[8] == 1:
            self.found.append((output[:, 0].numel(), args[1][0].numel(), output.shape[1], 1))
        elif kind is aten.convolution_backward and args[9] == 1:
            rows, inner, columns = args[0][:, 0].numel(), args[2][0].numel(), args[0].shape[1]
            self.found += [(rows, columns, inner, 1)] * args[10][0] + [(columns, rows, inner, 1)] * args[10][1]
        return output


def seconds(*calls):
    """The seconds of each call in each round, [rounds][calls], after one round that sets things up."""
    rounds = []
    for _ in range(ROUNDS + 1):
        spent = []
        for call in calls:
            started = time.perf_counter()
            call()
            spent.append(time.perf_counter() - started)
        rounds.append(spent)
    return rounds[1:]


def plain(products):
    """These products as `torch.bmm` does them, and their FLOPs."""
    pairs = [(torch.randn(n, rows, inner), torch.randn(n, inner, columns)) for rows, inner, columns, n in products]
    return lambda: [first @ second for first, second in pairs], sum(2 * r * i * c * n for r, i, c, n in products)


def prepare(model, kind, method, rung):
    """Freeze and extend the model as the method does, or as that rung of `progressive` does."""
    if rung:
        model.fixed_statistics = True
        model.freeze(progressive.rung_depth(len(model.blocks), progressive.SHARES[kind][rung - 1][1]))
    elif METHODS[method].prepare:
        METHODS[method].prepare(model)
    model.train()


def filled_cache(model, data, batch):
    """What the frozen blocks give for the rows of the batch, which are the first ones."""
    cache = Cache.empty(model.frozen, data)
    with torch.no_grad(), model.watched([cache.depth]) as outputs:
        model(batch)
    cache.keep(range(ROWS), outputs[cache.depth])
    return cache


def share(kind, method, rung=None, cached=False):
    """FLOP/s of a whole step, optimizer included, those of its products alone, and their ratio; medians."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(method=method, train_size=4 * ROWS, batch_size=ROWS, device="cpu", results=folder, **KINDS[kind])
        model = run.model
        prepare(model, kind, method, rung)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = loop._optimizer(run.config, [(weights, 1e-6)])
        train, _ = run.label()
        data = loop.encode_training(model, train, run.config.max_length)
        batch = model.reader.batch(data, range(ROWS), train=True)
        cache = filled_cache(model, data, batch) if cached else None

        def step():
            with loop._given(model, cache, range(ROWS), batch):
                model.loss(model(batch), batch).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()

        with Products() as products:
            step()
        alone, of_products = plain(products.found)
        rounds, flops = seconds(step, alone), count_flops(step)
    speeds = [(flops / whole, of_products / part) for whole, part in rounds]
    whole, part = (statistics.median(column) for column in zip(*speeds, strict=True))
    return whole, part, statistics.median(whole / part for whole, part in speeds)


def main(kinds):
    """Print the table as it goes."""
    print(
        f"{ROWS} rows a step, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}.\n"
    )
    print("| kind | method | GFLOP/s of a step | GFLOP/s of its products | share |")
    print("|---|---|---|---|---|")
    for kind in kinds or KINDS:
        cases = [(method, (method,)) for method in TRAINED if kind in METHODS[method].kinds]
        for rung in (1, 2):
            cases += [(f"progressive, rung {rung}", ("progressive", rung))]
            cases += [(f"progressive, rung {rung}, cached", ("progressive", rung, True))]
        for name, case in cases:
            step, products, ratio = share(kind, *case)
            print(f"| {kind} | {name} | {step / 1e9:.1f} | {products / 1e9:.1f} | {ratio:.0%} |", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What share of the machine's speed a training step reaches: `python tests/support/steps.py` prints a table.

The speed is that of plain matrix products of the same shapes as those that the step does, one after another, on the
same threads. A convolution counts as the product that it amounts to; a depthwise one has no such product of its own,
and is timed with the others of its step as it is.
"""

import statistics
import sys
import tempfile
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lrtl_utils.measure.flops import count_flops
from lrtl_utils.methods import METHODS, loop
from lrtl_utils.runs.run import Run

ROUNDS = 5
KINDS = {
    "text": {"dataset": "news_sample", "model": "minilm", "max_length": 64},
    "tokens": {"dataset": "entities_sample", "model": "minilm_crf", "max_length": 64},
    "image": {"dataset": "digits", "model": "efficientnet_lite0", "image_size": 64},
}
TRAINED = ("conventional", "full", "bitfit", "lora")
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


def seconds(call):
    """The median over the rounds, after one that sets things up."""
    call()
    spent = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def plain(products):
    """Seconds and FLOPs of these products as `torch.bmm` does them."""
    pairs = [(torch.randn(n, rows, inner), torch.randn(n, inner, columns)) for rows, inner, columns, n in products]
    return seconds(lambda: [first @ second for first, second in pairs]), sum(
        2 * r * i * c * n for r, i, c, n in products
    )


def share(kind, method):
    """FLOP/s of a whole step of the method, optimizer included, and those of its products alone."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(method=method, train_size=4 * ROWS, batch_size=ROWS, device="cpu", results=folder, **KINDS[kind])
        model = run.model.train()
        if METHODS[method].prepare:
            METHODS[method].prepare(model)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = loop._optimizer(run.config, [(weights, 1e-6)])
        train, _ = run.label()
        batch = model.reader.batch(loop.encode(model, train), range(ROWS), train=True)

        def step():
            model.loss(model(batch), batch).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()

        with Products() as products:
            step()
        spent, flops = seconds(step), count_flops(step)
        alone, of_products = plain(products.found)
    return flops / spent, of_products / alone


def main():
    """Print the table as it goes."""
    print("| kind | method | GFLOP/s of a step | GFLOP/s of its products | share |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        for method in TRAINED:
            if kind in METHODS[method].kinds:
                step, products = share(kind, method)
                print(
                    f"| {kind} | {method} | {step / 1e9:.1f} | {products / 1e9:.1f} | {step / products:.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    sys.exit(main())

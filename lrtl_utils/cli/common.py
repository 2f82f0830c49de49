"""What the verbs share: options, `name=value` pairs, and how they print."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from lrtl_utils.errors import InputError, printable, require_name

LOCAL = Path("results/local")
Results = Annotated[Path, Option(help="Folder of the records.")]
Folder = Annotated[Path, Argument(help="Folder of the records.")]
Parameters = Annotated[list[str] | None, Option("-p", help="A parameter, as name=value; may be repeated.")]
Workers = Annotated[int, Option(min=1, help="Number of runs at a time; they share the cores equally.")]
TextColumn = Annotated[
    str | None, Option(help="Column of the input text in your own file. Default: recognised by its name.")
]
LabelColumn = Annotated[
    str | None, Option(help="Column of the label in your own file. Default: recognised by its name.")
]


def known_metric(name: str | None) -> str | None:
    """The name of a metric, or None; `InputError` if there is none of that name."""
    from lrtl_utils.measure.metrics import METRICS

    if name is not None:
        require_name("metric", name, METRICS)
    return name


Metric = Annotated[
    str | None,
    Option(
        help="Metric to rank by: accuracy, macro_f1 or entity_f1. Default: accuracy; entity_f1 for tagged sentences.",
        callback=known_metric,
    ),
]
NoCache = Annotated[
    bool, Option("--no-cache", help="Do not reuse what earlier runs computed, so that every run is timed in full.")
]
EXTRA_OF = {"distributed": "cluster", "dask_jobqueue": "cluster", "cryptography": "cluster", "optuna": "search"}
EXTRA_OF |= {"onnxruntime": "onnx", "mlflow": "mlflow", "trackio": "trackio"}


def pair(text: str, option: str = "-p") -> tuple[str, str]:
    """`name=value` as a pair."""
    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"{option} {text} has no '='; write {option} name=value.")
    return name, value


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """The values of several `-p name=value`, by name; `InputError` for a name that is repeated."""
    given: dict[str, str] = {}
    for name, value in map(pair, texts):
        if name in given:
            raise InputError(f"-p {name} is given twice, as {given[name]} and as {value}.")
        given[name] = value
    return given


def require_package(name: str) -> None:
    """Raise an `InputError` that names the extra to install, unless the optional package `name` is installed."""
    if find_spec(name) is None:
        extra = EXTRA_OF[name]
        raise InputError(f"This needs the package {name}; install it with `pip install '.[{extra}]'`.")


def show(lines: str | Iterable[str]) -> None:
    """Print a line, or each of several, at once, with control characters made harmless."""
    for line in [lines] if isinstance(lines, str) else lines:
        print(printable(line), flush=True)


def fail(sentence: str, code: int) -> None:
    """Print a sentence on stderr and exit."""
    print(printable(sentence), file=sys.stderr)
    raise SystemExit(code)


@contextmanager
def interruptible(rest: str) -> Iterator[None]:
    """After Ctrl-C in the block, say that the same command continues with `rest`, and exit with 130.

    SIGTERM does the same while a run or a sweep is at work.
    """
    try:
        yield
    except KeyboardInterrupt:
        fail(f"Interrupted. Run the same command again to continue {rest}.", code=130)

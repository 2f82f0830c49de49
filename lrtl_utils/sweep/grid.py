"""A grid of runs: the whole file is read and checked, then resolved into distinct cells."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lrtl_utils.config import SIZES, RunConfig, read_config
from lrtl_utils.data.load import kind_of, reading
from lrtl_utils.errors import InputError, require_name
from lrtl_utils.files import absolute_path, read_text
from lrtl_utils.runs import store
from lrtl_utils.runs.notebook import NOTEBOOK_OF, read_parameters
from lrtl_utils.runs.record import in_words
from lrtl_utils.runs.run import Run

MOST_BYTES = 100_000  # of a grid's file
MOST_CELLS = 100_000  # of a block


@dataclass(frozen=True)
class Cell:
    """One run of a grid, resolved."""

    notebook: str
    asked: RunConfig
    config: RunConfig
    id: str

    @classmethod
    def of(cls, notebook: str, run: Run) -> "Cell":
        """The cell for a planned run."""
        return cls(notebook, run.asked, run.config, run.id)

    def path(self, results: Path) -> Path:
        """Where its record is."""
        return store.record_path(results, self.config.dataset, self.id)

    def __str__(self) -> str:
        return f"{in_words(self.config.model_dump())} ({self.id})"


def read_grid(path: str | Path) -> list[tuple[str, RunConfig]]:
    """The cells of a grid file, as (notebook, config), of one block after the other."""
    return list(itertools.chain.from_iterable(read_blocks(path).values()))


def read_blocks(path: str | Path) -> dict[str, list[tuple[str, RunConfig]]]:
    """The cells of each block of a grid file: fixed values, lists that multiply, `blocks` that share the rest.

    `extends` names a grid beside it, which extends no other; its values stand wherever the file has none of its own.
    `InputError` names the first thing that is wrong anywhere in it.
    """
    path = absolute_path(path)
    grid = _read(path)
    if base := grid.pop("extends", None):
        if not isinstance(base, str):
            raise InputError(f"{path}: `extends` must be the name of one file, not {base!r}.")
        shared = _read(path.parent / base)
        if "extends" in shared:
            raise InputError(f"{path} extends {base}, which extends another grid; extend one that does not.")
        grid = shared | grid
    named, blocks = "blocks" in grid, grid.pop("blocks", {"all": {}})
    if not isinstance(blocks, Mapping) or not all(isinstance(block, Mapping) for block in blocks.values()):
        raise InputError(f"{path}: `blocks` must map the name of each block to a mapping of its parameters.")
    once = cache(kind_of)  # for this reading alone: the user's folders may change
    if not blocks:
        raise InputError(f"{path} has no cell, because it has no block.")
    cells = {}
    for name, block in blocks.items():
        try:
            cells[name] = _cells(grid | dict(block), once)
            _require_one_size(grid, block)
        except InputError as error:
            raise InputError(f"{path.name}{f', block {name}' if named else ''}: {error}") from None
    return cells


def plan(grid: Sequence[tuple[str, RunConfig]], planned: Callable[[RunConfig], Run] = Run) -> list[Cell]:
    """The distinct cells of a grid, planned by `Run` or `Run.outline`; clamping makes some of them identical."""
    distinct: dict[str, Cell] = {}
    for cell in each_cell(grid, planned):
        distinct.setdefault(cell.id, cell)
    return list(distinct.values())


def each_cell(grid: Sequence[tuple[str, RunConfig]], planned: Callable[[RunConfig], Run] = Run) -> list[Cell]:
    """The cell of each row of a grid, planned by `Run` or `Run.outline`."""
    cells = {at: Cell.of(grid[at][0], planned(grid[at][1])) for at in by_data([asked for _, asked in grid])}
    return [cells[at] for at in range(len(grid))]


def by_data(configs: Sequence[RunConfig]) -> list[int]:
    """The positions of configurations, one data set after the other: few are kept in memory, and read only once."""
    return sorted(range(len(configs)), key=lambda at: str(reading(configs[at])))


class _Loader(yaml.SafeLoader):
    """Plain YAML in which a name that is repeated is an error, where PyYAML drops the first."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        names = [(key.tag, key.value) for key in keys]
        for i, key in enumerate(keys):
            if names[i] in names[:i]:
                raise yaml.YAMLError(f"{key.value} appears twice, the second time in line {key.start_mark.line + 1}")
        return node


def _read(path: Path) -> dict[str, Any]:
    text = read_text(path, MOST_BYTES)
    try:
        grid = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:  # of a wrong `!!int`
        mark = getattr(error, "problem_mark", None)
        line, said = (f", line {mark.line + 1}", error.problem) if mark else ("", " ".join(str(error).split()))
        raise InputError(f"{path}{line} is not plain YAML: {said}.") from None
    if grid is None:
        raise InputError(f"{path} is empty.")
    if not isinstance(grid, Mapping):
        raise InputError(f"{path} is not a mapping of parameters to values.")
    return dict(grid)


def _require_one_size(grid: Mapping[str, Any], block: Mapping[str, Any]) -> None:
    """`InputError` where a block, or a list, gives a number of labels that has no effect beside another one."""
    values = grid | block
    for first, later in itertools.combinations(SIZES, 2):
        given, ignored = values.get(first), values.get(later)
        counts = given is not None and not (isinstance(given, list) and None in given)
        wanted = ignored is not None and later in block and first not in block
        listed = isinstance(ignored, list) and len(ignored) > 1 and (later in block or first not in block)
        if counts and (wanted or listed):
            raise InputError(f"{later} has no effect beside {first}; leave one out, or set {first}: null.")


def _cells(values: Mapping[str, Any], kind_of: Callable[..., str]) -> list[tuple[str, RunConfig]]:
    for name in values:
        require_name("parameter", name, [*RunConfig.model_fields, "notebook"])
    lists = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    for name, choices in lists.items():
        # Not shown: by references to itself a small file can hold a list that takes ages to write out.
        if any(isinstance(choice, list | dict | set) for choice in choices):
            raise InputError(f"{name} must be one value or a list of values.")
        if not choices:
            raise InputError(f"{name} is an empty list.")
    if (size := math.prod(map(len, lists.values()))) > MOST_CELLS:
        raise InputError(f"the lists make {size} cells, more than the {MOST_CELLS} allowed.")
    cells = []
    for combination in itertools.product(*lists.values()):
        cell = dict(zip(lists, combination, strict=True))
        notebook = cell.pop("notebook", None)
        config = read_config(cell)
        notebook = notebook or NOTEBOOK_OF[kind_of(config.dataset, config.text_column, config.label_column)]
        cells.append((notebook, read_parameters(notebook, cell, kind_of)))
    return cells

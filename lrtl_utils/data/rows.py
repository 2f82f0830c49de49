"""Rows of files, read by the library `datasets`: within bounds, offline, nothing decoded, nothing left on the disk."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrtl_utils.errors import InputError, reason, require_name

if TYPE_CHECKING:
    from datasets import IterableDataset

MOST_BYTES = 2 * 2**30  # in memory, of the columns that are read; a small file can unpack to more than any memory
MOST_ROWS_AT_ONCE = 1024
_ONE_AT_A_TIME = threading.RLock()  # because what is set for the time of a reading is global


def read(file: Path, only: Sequence[str] = ()) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    """The columns of a parquet or Arrow file, all or `only` some, and the names of the classes of those that have them.

    An image is its bytes and path, a label its number. `InputError` if the file cannot be read, a column is missing, or
    the rows exceed `MOST_BYTES`.
    """
    with _reading(file) as place:
        from datasets import IterableDataset

        at_once = MOST_ROWS_AT_ONCE
        if file.suffix.lower() == ".arrow":
            found = IterableDataset.from_file(str(place))
        else:
            at_once = _rows_at_once(file)
            options: dict[str, Any] = {"cache_dir": str(place.parent), "batch_size": at_once}
            found = IterableDataset.from_parquet(str(place), **options)
            for name in only:
                require_name(f"column of {file}", name, found.features)
            if only:
                found = IterableDataset.from_parquet(str(place), columns=[*only], **options)
        names = {name: _class_names(feature) for name, feature in found.features.items()}
        return _gather(found, at_once, file), {name: known for name, known in names.items() if known}


def read_delimited(file: Path, text: str, header: list[str], **options: Any) -> dict[str, list[str]]:
    """The `text` of a CSV file with those columns, every value a string; the options are those of pandas."""
    with _reading(file) as place:
        from datasets import Features, IterableDataset, Value

        place.unlink()
        place.write_text(text, encoding="utf-8", newline="")
        features = Features({name: Value("string") for name in header})
        options |= {"names": header, "header": 0, "na_filter": False, "cache_dir": str(place.parent)}
        return _gather(IterableDataset.from_csv(str(place), features=features, **options), MOST_ROWS_AT_ONCE, file)


@contextmanager
def _reading(file: Path) -> Iterator[Path]:
    """A link to the file in a temporary folder, because `datasets` would take some names for patterns or addresses.

    Whatever a damaged file makes `datasets` raise becomes an `InputError`; what it would log is not shown.
    """
    import datasets

    with _ONE_AT_A_TIME:
        verbosity, torch = datasets.logging.get_verbosity(), datasets.config.TORCH_AVAILABLE
        datasets.logging.set_verbosity(datasets.logging.CRITICAL + 1)
        datasets.config.TORCH_AVAILABLE = False  # else every stream of rows imports torch, which takes seconds
        try:
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder) / f"rows{file.suffix}"
                place.symlink_to(file.resolve())
                yield place
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{file} cannot be read as {file.suffix.removeprefix('.')}: {reason(error)}") from None
        finally:
            datasets.logging.set_verbosity(verbosity)
            datasets.config.TORCH_AVAILABLE = torch


def _gather(found: "IterableDataset", rows_at_once: int, file: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in found.features}
    size = 0
    for table in found.with_format("arrow").iter(rows_at_once):
        size += table.nbytes
        if size > MOST_BYTES:
            raise InputError(f"{file} holds more than {MOST_BYTES / 2**20:.0f} MiB in the columns to be read.")
        table.validate(full=True)  # texts that are not UTF-8, offsets that point outside
        for name, column in columns.items():
            column += table[name].to_pylist()
    return columns


def _rows_at_once(file: Path) -> int:
    """A number of rows that fit in memory, even where each repeats the largest value that a stored column may hold."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    stored = [group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)]
    return max(1, min(MOST_ROWS_AT_ONCE, MOST_BYTES // max([1, *stored])))


def _class_names(feature: Any) -> list[str] | None:
    """The names of the classes of a column, or of the lists in it; None where the file does not name them."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    return getattr(feature, "names", None)

"""Rows of files, read by the library `datasets`: within bounds, offline, nothing decoded, nothing left on the disk."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrtl_utils.errors import InputError, require_name

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, IterableDataset

MOST_BYTES = 2 * 2**30  # in memory, of the columns that are read; a small file can unpack to more than any memory
MOST_ROWS_AT_ONCE = 1024


def read(file: Path, columns: Mapping[str, str] | None = None) -> "Dataset":
    """A parquet or Arrow file, or only its `columns`: for each name what it must hold, as in `_require_content`.

    `InputError` if it cannot be read, a column is missing or holds something else, or the rows exceed `MOST_BYTES`.
    """
    with _reading(file) as place:
        from datasets import IterableDataset

        if file.suffix == ".arrow":
            return _gather(IterableDataset.from_file(str(file)), MOST_ROWS_AT_ONCE, file)
        options: dict[str, Any] = {"cache_dir": str(place.parent), "batch_size": _rows_at_once(file)}
        found = IterableDataset.from_parquet(str(place), **options)
        for name, content in (columns or {}).items():
            require_name(f"column of {file}", name, found.features)
            _require_content(file, name, found.features.arrow_schema.field(name).type, content)
        if columns:
            found = IterableDataset.from_parquet(str(place), columns=list(columns), **options)
        return _gather(found, options["batch_size"], file)


def values(dataset: "Dataset", column: str) -> list[Any]:
    """A column as Python values: an image as its bytes and path, a label as its number."""
    return dataset.data.table[column].to_pylist()


def class_names(dataset: "Dataset", column: str) -> list[str] | None:
    """The names of the classes of a column, or of the lists in it; None where the file does not name them."""
    feature = dataset.features[column]
    while hasattr(feature, "feature"):
        feature = feature.feature
    return getattr(feature, "names", None)


@contextmanager
def _reading(file: Path) -> Iterator[Path]:
    """A link to the file in a temporary folder, because `datasets` would take some names for patterns or addresses.

    Whatever a damaged file makes `datasets` raise becomes an `InputError`; what it would log is not shown.
    """
    import datasets

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
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{file} cannot be read as {file.suffix.removeprefix('.')}: {reason}") from None
    finally:
        datasets.logging.set_verbosity(verbosity)
        datasets.config.TORCH_AVAILABLE = torch


def _gather(found: "IterableDataset", rows_at_once: int, file: Path) -> "Dataset":
    import pyarrow as pa
    from datasets import Dataset, Image

    held, size = [], 0
    tables: Iterable[pa.Table] = found.with_format("arrow").iter(rows_at_once)
    for table in tables:
        held.append(table)
        size += table.nbytes
        if size > MOST_BYTES:
            raise InputError(f"{file} holds more than {MOST_BYTES / 2**20:.0f} MiB in the columns to be read.")
    table = pa.concat_tables(held) if held else found.features.arrow_schema.empty_table()
    table.validate(full=True)  # texts that are not UTF-8, offsets that point outside
    dataset = Dataset(table, info=found.info)
    for name, feature in found.features.items():
        if isinstance(feature, Image):
            dataset = dataset.cast_column(name, Image(decode=False))
    return dataset


def _rows_at_once(file: Path) -> int:
    """A number of rows that fit in memory, even where each repeats the largest value that a stored column may hold."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    stored = [group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)]
    return max(1, min(MOST_ROWS_AT_ONCE, MOST_BYTES // max([1, *stored])))


def _require_content(file: Path, name: str, found: "pa.DataType", content: str) -> None:
    from pyarrow import types

    inner = found.value_type if types.is_list(found) or types.is_large_list(found) else None
    right = {
        "text": _is_text(found),
        "label": types.is_integer(found),
        "words": inner is not None and _is_text(inner),
        "tags": inner is not None and types.is_integer(inner),
        "image": types.is_struct(found) and found.get_field_index("bytes") >= 0,
    }
    if not right[content]:
        raise InputError(f"{file}: column {name!r} holds {str(found)[:60]} where {content} is expected.")


def _is_text(found: "pa.DataType") -> bool:
    from pyarrow import types

    return types.is_string(found) or types.is_large_string(found) or types.is_string_view(found)

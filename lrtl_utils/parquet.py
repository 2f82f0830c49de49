"""Columns of parquet files, read within bounds: a small file can say that it holds more than any memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrtl_utils.config import InputError, require_name

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BYTES = 2 * 2**30  # of the columns that are read, in memory
MOST_ROWS_AT_ONCE = 1024


def read_columns(file: Path, columns: Mapping[str, str]) -> "pa.Table":
    """The columns of a parquet file, by name and by what each must hold: `text`, `label` (an integer), `words`, `tags`
    (integers) or `image` (its encoded bytes). `InputError` where one is absent or holds something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        for name, content in columns.items():
            require_name(f"column of {file}", name, parquet.schema_arrow.names)
            _require_content(file, name, parquet.schema_arrow.field(name).type, content)
        batches, size = [], 0
        for batch in parquet.iter_batches(_rows_at_once(parquet), columns=list(columns)):
            batches.append(batch)
            size += batch.nbytes
            if size > MOST_BYTES:
                raise InputError(f"{file} holds more than {MOST_BYTES / 2**20:.0f} MiB in the columns to be read.")
        return pa.Table.from_batches(batches, pa.schema([parquet.schema_arrow.field(name) for name in columns]))
    except (pa.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{file} cannot be read as parquet: {reason}") from None


def _rows_at_once(parquet: Any) -> int:
    """So many that they fit, even where each repeats the largest value that a stored column may hold."""
    groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
    stored = [group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)]
    return max(1, min(MOST_ROWS_AT_ONCE, MOST_BYTES // max([1, *stored])))


def label_names(file: Path, column: str) -> tuple[str, ...]:
    """The names of the labels in a column, as `datasets` writes them into the schema; `InputError` without."""
    import pyarrow.parquet as pq
    from datasets import Features

    try:
        feature = Features.from_arrow_schema(pq.read_schema(file))[column]
        return tuple(str(name) for name in getattr(feature, "feature", feature).names)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{file} does not name the labels of its column {column!r}, as `datasets` does.") from None


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

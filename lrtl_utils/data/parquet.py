"""Columns of parquet files, read within bounds: a small file can say that it holds more than any memory."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrtl_utils.errors import InputError, require_name

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BYTES = 2 * 2**30  # of the columns that are read, in memory
MOST_ROWS_AT_ONCE = 1024


def read(file: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """Columns of a parquet file, or all; `InputError` where it is none, or unpacks to more than `MOST_BYTES`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        return gather(parquet.iter_batches(_rows_at_once(parquet), columns=columns), parquet.schema_arrow, file)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from None


def gather(batches: Iterable["pa.RecordBatch"], schema: "pa.Schema", file: Path) -> "pa.Table":
    """The batches as one table, which has the metadata of `schema`, and its columns where there is no batch."""
    import pyarrow as pa

    held, size = [], 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size > MOST_BYTES:
            raise InputError(f"{file} holds more than {MOST_BYTES / 2**20:.0f} MiB in the columns to be read.")
    table = pa.Table.from_batches(held) if held else schema.empty_table()
    table.validate(full=True)  # texts that are not UTF-8, offsets that lead nowhere
    return table.replace_schema_metadata(schema.metadata)


def read_columns(file: Path, columns: Mapping[str, str]) -> "pa.Table":
    """Columns by name and by what each must hold: `text`, `label` (an integer), `words`, `tags` (integers) or `image`
    (its encoded bytes). `InputError` where one is absent or holds something else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from None
    for name, content in columns.items():
        require_name(f"column of {file}", name, schema.names)
        _require_content(file, name, schema.field(name).type, content)
    return read(file, list(columns))


def _rows_at_once(parquet: Any) -> int:
    """So many that they fit, even where each repeats the largest value that a stored column may hold."""
    groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
    stored = [group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)]
    return max(1, min(MOST_ROWS_AT_ONCE, MOST_BYTES // max([1, *stored])))


def named_labels(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of the labels of each column that has some, as `datasets` writes them into a schema's metadata."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return names_in(features)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # not from `datasets`
        return {}


def names_in(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of the labels of each column that has some, from features as `datasets` writes them down."""
    return {column: names for column, feature in features.items() if (names := _names(feature))}


def label_names(file: Path, column: str) -> tuple[str, ...]:
    """The names of the labels in a column; `InputError` where the file does not tell them."""
    import pyarrow.parquet as pq

    names = named_labels(pq.read_schema(file).metadata).get(column)
    if not names:
        raise InputError(f"{file} does not name the labels of its column {column!r}, as `datasets` does.")
    return tuple(map(str, names))


def _names(feature: Any) -> list[str] | None:
    """Those in a feature, or in a list of such; None without."""
    while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    if isinstance(feature, list) and feature:
        feature = feature[0]
    names = feature.get("names") if isinstance(feature, dict) else None
    return names if isinstance(names, list) else None


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(f"{file} cannot be read as parquet: {next(iter(str(error).splitlines()), type(error).__name__)}")


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

"""Rows of parquet and Arrow files, within bounds, with nothing decoded."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrtl_utils.errors import InputError, reason, require_name

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BYTES = 2 * 2**30  # in memory, of the columns that are read; a small file can unpack to more than any memory
MOST_ROWS_AT_ONCE = 1024


def read(file: Path, only: Sequence[str] = ()) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    """The columns of a parquet or Arrow file, all or `only` some, and the names of the classes of those that have them.

    An image is its bytes and path, a label its number. `InputError` if the file cannot be read, a column is missing, or
    the rows exceed `MOST_BYTES`.
    """
    try:
        import pyarrow as pa
        from datasets import Features

        schema, batches = _opened(file, only)
        for name in only:
            require_name(f"column of {file}", name, schema.names)
        features = Features.from_arrow_schema(schema)
        plain = pa.schema([features.arrow_schema.field(name) for name in only or schema.names])
        names = {name: _class_names(features[name]) for name in plain.names}
        return _gather(batches, plain, file), {name: known for name, known in names.items() if known}
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes the libraries raise
        raise InputError(f"{file} cannot be read as {file.suffix.removeprefix('.')}: {reason(error)}") from None


def _opened(file: Path, only: Sequence[str]) -> "tuple[pa.Schema, Iterator[pa.RecordBatch]]":
    """The schema of a file, and its rows in batches; those of a parquet file fit in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix.lower() == ".arrow":
        stream = pa.ipc.open_stream(pa.memory_map(str(file)))
        return stream.schema, iter(stream)
    opened = pq.ParquetFile(file)
    there = [name for name in only if name in opened.schema_arrow.names]
    return opened.schema_arrow, opened.iter_batches(_rows_at_once(opened.metadata), columns=there or None)


def _gather(batches: "Iterator[pa.RecordBatch]", plain: "pa.Schema", file: Path) -> dict[str, list[Any]]:
    """The columns of the schema `plain`, which has values where the file may have a dictionary of them."""
    columns: dict[str, list[Any]] = {name: [] for name in plain.names}
    size = 0
    for stored in batches:
        for at in range(0, stored.num_rows, MOST_ROWS_AT_ONCE):
            batch = stored.slice(at, MOST_ROWS_AT_ONCE).select(plain.names)
            batch.validate(full=True)  # texts that are not UTF-8, offsets that point outside
            batch = batch.cast(plain)  # a dictionary is small, however much its values are together
            size += batch.nbytes
            if size > MOST_BYTES:
                raise InputError(f"{file} holds more than {MOST_BYTES / 2**20:.0f} MiB in the columns to be read.")
            for name, column in columns.items():
                column += batch[name].to_pylist()
    return columns


def _rows_at_once(metadata: Any) -> int:
    """A number of rows that fit in memory, even where each repeats the largest value that a stored column may hold."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    stored = [group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)]
    return max(1, min(MOST_ROWS_AT_ONCE, MOST_BYTES // max([1, *stored])))


def _class_names(feature: Any) -> list[str] | None:
    """The names of the classes of a column, or of the lists in it; None where the file does not name them."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    return getattr(feature, "names", None)

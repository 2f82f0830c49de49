"""Rows of parquet and Arrow files, read within bounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrtl_utils.errors import InputError, require_name

MOST_BYTES = 2 * 2**30  # in memory, of the columns that are read; a small file can unpack to more than any memory
MOST_ROWS_AT_ONCE = 1024


def read(file: Path, only: Sequence[str] = ()) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    """The columns of a file, all or `only` some, and the names of the classes of the columns that have them.

    An image is its bytes and path, a label its number. `InputError` if the file cannot be read, if a column is missing,
    or if the rows exceed `MOST_BYTES`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    try:
        with file.open("rb") as stream:
            if file.suffix == ".arrow":
                batches = pa.ipc.open_stream(stream)
                schema = batches.schema
            else:
                stored = pq.ParquetFile(stream)
                schema = stored.schema_arrow
                batches = stored.iter_batches(_rows_at_once(stored.metadata), columns=[*only] or None)
            for name in only:
                require_name(f"column of {file}", name, schema.names)
            columns = {name: [] for name in only or schema.names}
            size = 0
            for batch in batches:
                size += batch.nbytes
                if size > MOST_BYTES:
                    raise InputError(f"{file} holds more than {MOST_BYTES / 2**20:.0f} MiB in the columns to be read.")
                batch.validate(full=True)  # texts that are not UTF-8, offsets that point outside
                for name, column in columns.items():
                    column += batch.column(name).to_pylist()
        features = Features.from_arrow_schema(schema)
    except InputError:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{file} cannot be read as {file.suffix.removeprefix('.')}: {reason}") from None
    return columns, {name: names for name in columns if (names := _class_names(features[name]))}


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

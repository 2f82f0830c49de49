"""The records of a folder, of which only new ones are checked: the others come from a cache beside them.

The cache is never the truth: it is made of the records, left out where a record's file is no longer the one that it was
made of, and made anew where it cannot be read. `verify` and whatever writes records read the records themselves.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from lrtl_utils import config
from lrtl_utils.files import absolute_path, open_regular, write_atomically
from lrtl_utils.runs import record as schema
from lrtl_utils.runs import store

NAME = "records.parquet"
WORTH = 1000  # records; fewer are checked within a second, and get no cache
# What an earlier version of the schema found valid is checked again.
CHECKS = hashlib.sha256(b"".join(Path(module.__file__).read_bytes() for module in (config, schema))).hexdigest()
COLUMNS = ("path", "size", "mtime_ns")  # of a record's file, as it was when it was checked

Kept = dict[tuple[str, int, int], dict[str, Any]]  # by the `COLUMNS`

_LAST: dict[Path, Kept] = {}  # of the last folder, for this process and its forks


def records(results: str | Path) -> list[dict[str, Any]]:
    """What `store.records` gives, as a list."""
    folder, found = absolute_path(results), {}
    kept = _LAST.get(folder) or _read(folder / NAME)
    for path in store.paths(folder):
        with contextlib.suppress(FileNotFoundError):  # deleted since the folder was listed
            at = path.stat()  # before the record is read, so that a file that is replaced meanwhile is read again
            file = (str(path.relative_to(folder)), at.st_size, at.st_mtime_ns)
            if record := kept.get(file) or store.valid(path):
                found[file] = record
    _LAST.clear()
    _LAST[folder] = found
    if len(found) >= WORTH and found.keys() != kept.keys():
        with contextlib.suppress(OSError):  # a folder that cannot be written in is read without a cache
            write_atomically(folder / NAME, lambda stream: _write(found, stream))
    return list(found.values())


def _read(path: Path) -> Kept:
    """The cache, or nothing where it is absent, damaged, or of another version."""
    try:
        with open_regular(path) as stream:
            table = pyarrow.parquet.read_table(stream, page_checksum_verification=True, use_threads=False)
        if table.schema.metadata[b"checks"] != CHECKS.encode():
            return {}
        files = zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)
        return dict(zip(files, map(json.loads, table["record"].to_pylist()), strict=True))
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException):
        return {}


def _write(found: Kept, stream: Any) -> None:
    columns = dict(zip(COLUMNS, zip(*found, strict=True), strict=True))
    columns |= {"record": [json.dumps(record, separators=(",", ":")) for record in found.values()]}
    table = pyarrow.table({name: list(values) for name, values in columns.items()}, metadata={"checks": CHECKS})
    pyarrow.parquet.write_table(
        table, stream, compression="zstd", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )

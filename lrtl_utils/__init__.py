"""Low-resource transfer learning: the pieces of one run, its record, and the sweep that repeats it."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_EXPORTED = {"Run": "lrtl_utils.runs.run", "compare": "lrtl_utils.comparison", "records": "lrtl_utils.study.tables"}


def __getattr__(name: str) -> Any:
    """Import what is exported when it is first asked for, to keep the start of the command line fast."""
    if name not in _EXPORTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTED[name]), name)

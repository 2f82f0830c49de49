"""Low-resource transfer learning: fine-tune pre-trained models on few labels, and compare methods by score and cost."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrtl_utils.comparison import compare
    from lrtl_utils.runs.run import Run
    from lrtl_utils.study.tables import records

__all__ = ["Run", "compare", "records"]
# With it jsonschema, which nbformat imports, would build a parser of international addresses: that takes seconds, and a
# notebook has no such address.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
_HOME = {"Run": "lrtl_utils.runs.run", "compare": "lrtl_utils.comparison", "records": "lrtl_utils.study.tables"}


def __getattr__(name: str) -> Any:
    """Import `Run`, `compare` or `records` when it is first used, so that the command line starts without torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

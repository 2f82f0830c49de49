"""Menus in a notebook for what a person changes first."""

from typing import Any

from lrtl_utils.data.catalog import TASKS
from lrtl_utils.data.load import kind_of
from lrtl_utils.methods import METHODS
from lrtl_utils.models.catalog import MODELS
from lrtl_utils.runs.run import on_disk


def menus(parameters: dict[str, Any]) -> Any:
    """Menus for `dataset`, `model` and `method`, with what fits the kind of the present data set.

    A choice sets that variable of the notebook, whose `globals()` are `parameters`; the cells below then read it.
    Without ipywidgets, a sentence that says so.
    """
    try:
        import ipywidgets
    except ImportError:
        return "The menus need ipywidgets (pip install ipywidgets). Everything can be set in the parameter cell too."
    reading = on_disk(parameters)  # a table in memory has a path there
    kind = kind_of(reading["dataset"], reading.get("text_column"), reading.get("label_column"))
    fitting = {
        "dataset": [name for name, row in TASKS.items() if row.kind == kind],
        "model": [name for name, row in MODELS.items() if kind in row.kinds],
        "method": [name for name, row in METHODS.items() if kind in row.kinds],
    }

    def menu(name: str) -> Any:
        present = reading[name]
        made = ipywidgets.Dropdown(description=name, options=[*dict.fromkeys([*fitting[name], present])], value=present)
        made.observe(lambda change: parameters.update({name: change["new"]}), names="value")
        return made

    return ipywidgets.VBox([menu(name) for name in fitting])

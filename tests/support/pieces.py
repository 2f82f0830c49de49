"""The pieces of a run, for tests that need one of them alone."""

from lrtl_utils.data import splits
from lrtl_utils.methods import METHODS
from lrtl_utils.methods.method import Work
from lrtl_utils.runs.run import NO_MODEL, SIZES, Run, build, check, find_weights, resolve

__all__ = ["NO_MODEL", "SIZES", "Run", "build", "check", "find_weights", "fit", "label", "resolve"]


def label(model, data, config, meter):
    """As `Run.label`, on a clock that runs or stands still."""
    if config.selection == "random":
        return splits.labelled(data, config)
    from lrtl_utils.methods import active

    return splits.labelled(data, config, active.choose(model, data, config, meter))


def fit(model, data, train, validation, config, *, meter, work=None):
    """As `Run.fit`, on a clock that runs or stands still."""
    method = METHODS[config.method]
    if method.prepare:
        method.prepare(model)
    return method.fit(Work(model, data, train, validation, config, meter, work))

"""The pieces of a run, for tests that need one of them alone."""

from lrtl_utils.data import splits
from lrtl_utils.methods import METHODS
from lrtl_utils.methods.method import Work
from lrtl_utils.runs.run import NO_MODEL, SIZES, Run, build, check, find_weights, prepare, resolve

__all__ = ["NO_MODEL", "SIZES", "Run", "build", "check", "find_weights", "fit", "label", "prepare", "resolve"]


def label(model, data, config, meter):
    """As `Run.label`, on a clock that runs or stands still."""
    if config.selection == "random":
        return splits.labelled(data, config)
    from lrtl_utils.methods import active

    return splits.labelled(data, config, active.choose(model, data, config, meter))


def fit(model, data, train, validation, config, *, meter, work=None):
    """As `Run.fit`, on a clock that runs or stands still."""
    prepare(model, config)
    return METHODS[config.method].fit(Work(model, data, train, validation, config, meter, work))

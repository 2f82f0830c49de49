"""One run from its parameters to its record, as a task notebook does it."""

from lrtl_utils.runs.run import Run


def run(results, **knobs):
    """What a task notebook does; the model, its record, and its answers on the test examples."""
    done = Run(results=results, **knobs)
    done.fit(*done.label())
    tested = done.test()
    done.record(tested)
    return done.model, done.path, done.data, tested.examples, done.config, tested.prediction

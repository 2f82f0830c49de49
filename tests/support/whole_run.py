"""One run from its parameters to its record, as a task notebook does it."""

import pieces as methods

from lrtl_utils.config import read_config
from lrtl_utils.data import load as tasks
from lrtl_utils.data import splits
from lrtl_utils.measure import metrics as scoring
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop as training
from lrtl_utils.models import build as models
from lrtl_utils.runs import store as runs


def run(results, **knobs):
    """What a task notebook does; the model, its record, and its answers on the test examples."""
    asked = read_config(knobs)
    data = tasks.load(asked.dataset)
    config = methods.resolve(asked, data)
    weights = methods.find_weights(config)
    identity = methods.identify(config, asked, data.source, weights)
    model = methods.build(config, data, weights)
    meter = CostMeter(config.device)
    with meter.measure():
        train, carve = methods.label(model, data, config, meter)
        curve = methods.fit(model, data, train, carve, config, meter=meter)
    config, curve, test = training.settled(config, model), meter.priced(curve), splits.test_examples(data, config)
    prediction = training.predict(model, test, config)
    path = runs.completed(
        results,
        identity,
        config,
        asked,
        data=splits.describe(data, train, carve, test),
        metrics=scoring.evaluate(test.targets, prediction, data.labels, curve),
        validation=None,
        cost=meter.report(len(train), prediction.seconds, len(test)),
        model=models.describe(model, weights),
        curve=curve,
        precision=training.precision_used(config, model.reader.kind),
    )
    return model, path, data, test, config, prediction

"""Tiny runs of each method, built, trained and scored as the notebooks do it."""

from collections import namedtuple

import pieces as methods

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load as tasks
from lrtl_utils.data import splits
from lrtl_utils.measure import metrics as scoring
from lrtl_utils.measure.meter import CostMeter
from lrtl_utils.methods import loop as training
from lrtl_utils.models import catalog as models

DATASET = {"text": "ag_news", "image": "cifar10", "tokens": "conll2003"}
TINY = {"train_size": 16, "batch_size": 8, "epochs": 1, "max_length": 16, "image_size": 32, "device": "cpu"}
ADAPTING = ("from_scratch", "conventional", "full", "linear_probe", "lp_ft", "bitfit", "lora", "progressive")
MIRRORED = [(name, kind) for name, row in models.MODELS.items() if row.hub for kind in row.kinds]

Done = namedtuple("Done", "config model data train validation test curve meter prediction metrics")


def prepare(**knobs):
    asked = RunConfig(**{"device": "cpu"} | knobs)
    data = tasks.load(asked.dataset)
    return asked, data, methods.resolve(asked, data)


def run(**knobs):
    """Build, train and predict as the notebooks do."""
    _, data, config = prepare(**TINY | knobs)
    model = methods.build(config, data, methods.find_weights(config))
    training.warm_up(model, config)
    meter = CostMeter(config.device)
    with meter.measure():
        train, validation = methods.label(model, data, config, meter)
        curve = methods.fit(model, data, train, validation, config, meter=meter)
    curve = meter.priced(curve)
    test = splits.test_examples(data, config)
    prediction = training.predict(model, test, config)
    metrics = scoring.evaluate(test.targets, prediction, data.classes, curve)
    return Done(config, model, data, train, validation, test, curve, meter, prediction, metrics)

"""Tiny runs of each method, built, trained and scored as the notebooks do it."""

import tempfile
from collections import namedtuple

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load as tasks
from lrtl_utils.models import catalog as models
from lrtl_utils.runs.run import Run, resolve

DATASET = {"text": "ag_news", "image": "cifar10", "tokens": "conll2003"}
TINY = {"train_size": 16, "batch_size": 8, "epochs": 1, "max_length": 16, "image_size": 32, "device": "cpu"}
ADAPTING = ("from_scratch", "conventional", "full", "linear_probe", "lp_ft", "bitfit", "lora", "progressive")
MIRRORED = [(name, kind) for name, row in models.MODELS.items() if row.hub for kind in row.kinds]

Done = namedtuple("Done", "config model data train validation test curve meter prediction metrics")


def prepare(**knobs):
    asked = RunConfig(**{"device": "cpu"} | knobs)
    data = tasks.load(asked.dataset)
    return asked, data, resolve(asked, data)


def run(**knobs):
    """Build, train and predict as the notebooks do."""
    with tempfile.TemporaryDirectory() as folder:
        done = Run(results=folder, **TINY | knobs)
        done.fit(*done.label())
    test = done.test()
    parts = (done.config, done.model, done.data, done.train, done.validation, test.examples, done.curve, done.meter)
    return Done(*parts, test.prediction, test.metrics)

"""Other tools' records say what these tools answer. `make peers-tests` makes an environment that has SetFit."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from lrtl_utils.data import splits
from lrtl_utils.measure import metrics
from lrtl_utils.runs.run import Run
from lrtl_utils.runs.verify import verify

pytestmark = pytest.mark.skipif(find_spec("setfit") is None, reason="setfit is not installed (make peers-tests)")
ASKED = {"dataset": "news_sample", "model": "minilm", "shots": 2, "seed": 3}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Of each peer, beside one run of `linear_probe`."""
    from lrtl_utils.study.benchmarks import peers

    results = tmp_path_factory.mktemp("results")
    beside = Run(**ASKED, method="linear_probe", results=results)
    beside.fit(*beside.label())
    beside.record(beside.test())
    peers.main(results)
    assert verify(results).faults == {}
    found = [json.loads(path.read_text()) for path in results.glob("runs/*/*.json")]
    return {record["config"]["method"]: record for record in found}


def test_each_peer_runs_once_on_the_same_labels(records):
    assert set(records) == {"linear_probe", "setfit", "setfit_20", "mteb_probe"}
    assert len({record["data"]["subset_sha256"] for record in records.values()}) == 1
    assert records["setfit_20"]["cost"]["flops"] > records["setfit"]["cost"]["flops"]
    # SetFit trains on pairs and then reads each text once; the probe does only the latter.
    assert all(record["environment"]["setfit"] for method, record in records.items())
    passes = {method: {*record["cost"]["flops_by_phase"]} for method, record in records.items()}
    assert passes["setfit"] == {"step", "features"}
    assert passes["mteb_probe"] == {"features"}


def test_answers_are_those_of_setfit_itself(records, tmp_path):
    import setfit
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    from lrtl_utils.models.catalog import find

    run = Run(**ASKED, method="linear_probe")
    train, test = splits.labelled(run.data, run.config)[0], splits.test_examples(run.data, run.config)
    body = SentenceTransformer(str(find("minilm").reading_folder), device="cpu")
    model = setfit.SetFitModel(model_body=body, model_head=LogisticRegression())
    options = setfit.TrainingArguments(output_dir=str(tmp_path), seed=3, save_strategy="no", report_to="none")
    examples = Dataset.from_dict({"text": list(train.inputs), "label": list(train.targets)})
    setfit.Trainer(model=model, args=options, train_dataset=examples).train()
    theirs = np.array(model.predict(list(test.inputs), as_numpy=True))
    ours = metrics.unpack_rows(records["setfit"]["metrics"]["answers"], 2)
    assert (theirs == ours[:, 1]).mean() > 0.99
    assert (theirs == ours[:, 0]).mean() == pytest.approx(records["setfit"]["metrics"]["accuracy"], abs=0.01)

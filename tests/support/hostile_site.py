"""A report of results whose texts, labels, names and errors are markup that would run."""

import time
from pathlib import Path

import pytest
from complete import call

from lrtl_utils.config import RunConfig
from lrtl_utils.runs import record as schema
from lrtl_utils.runs import store

SCRIPT = "<script>window.pwned=1</script>"
IMAGE = "<img src=x onerror=window.pwned=1>"  # may be a file's name


def like(content, results, **knobs):
    """Write a record as that one, of another configuration."""
    given = content["config"] | knobs
    asked = {name: value for name, value in given.pop("asked").items() if name not in knobs}
    config = RunConfig(**given)
    identity = schema.run_id(config.model_dump(), content["data"]["source"]["sha256"], None, 1)
    parts = {name: content[name] for name in ("data", "metrics", "validation", "cost", "model", "curve")}
    store.completed(results, identity, config, asked, started=time.time(), clocked=0.0, **parts)
    return identity


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Results whose texts, labels, names and errors are markup that would run, with the site of them."""
    folder = tmp_path_factory.mktemp("hostile")
    data, results = folder / f"{IMAGE}.csv", folder / f"results {IMAGE}"
    rows = [f'"{SCRIPT} {word} {i}","{label}"' for i in range(40) for word, label in ((IMAGE, SCRIPT), ("b", IMAGE))]
    data.write_text("\n".join(["text,label", *rows]))
    knobs = [f"dataset={data}", "method=tfidf", "train_size=12"]
    done = call("run", "text_classification", "--results", results, *(w for knob in knobs for w in ("-p", knob)))
    assert done.returncode == 0, done.stderr
    record = store.read(Path(done.stdout.strip()))
    assert SCRIPT in record["data"]["labels"]
    (point,) = record["curve"]
    record["curve"] = [point | {"epoch": i, "loss": 1 / i} for i in (1, 2, 3)]
    for seed in (1, 2, 3):
        like(record, results, seed=seed)
    record["metrics"] |= {"accuracy": 0.25}
    like(record, results, method="from_scratch", model="simple_nn", seed=0)
    config = RunConfig(dataset=str(data), model="simple_nn", method="full", seed=7)
    Path(done.stdout.strip()).with_name("nowhere.json").symlink_to(folder / "nowhere")
    store.failed(results, "0123456789ab", config, {}, f"ValueError: {SCRIPT}{IMAGE}", started=0.0)
    return results, call("report", results)


@pytest.fixture(scope="module")
def site(hostile):
    results, done = hostile
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(results / "report" / "index.html")
    return results / "report"


def of(site, kind):
    return sorted(site.glob(f"{kind}/*.html")) if kind else [site / "index.html"]

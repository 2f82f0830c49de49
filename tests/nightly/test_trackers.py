"""Exported records in the real programs: their servers on loopback, and their pages in Chromium.

MLflow and trackio hold back packages of this project, so `make trackers` runs this in an environment of their own.
"""

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from complete import call, wait_for
from synthetic import outcomes, write_run

from lrtl_utils.data.hub import _answers
from lrtl_utils.study import tables

PATIENCE = 180.0
SST2 = {"dataset": "sst2", "model": "minilm", "train_size": 32}


def needs(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed (make trackers)")


@pytest.fixture
def results(tmp_path):
    """Two runs."""
    for seed in range(2):
        write_run(tmp_path / "mine", outcomes(0.5, 32, seed), method="full", seed=seed, **SST2)
    return tmp_path / "mine"


@contextmanager
def served(folder, *words, **variables):
    """The address of a server that `words` start, with `PORT` among them, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    command = [port if word == "PORT" else str(word) for word in words]
    with (folder / "server.log").open("w") as log:
        environment = os.environ | variables
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(lambda: _answers(address), PATIENCE)
            yield address
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def beside(name):
    """A program of this environment."""
    return Path(sys.executable).with_name(name)


def export(*words, **variables):
    """The lines that `lrtl export` prints, the last of which is a place."""
    done = call("export", *words, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs("mlflow")
@pytest.mark.parametrize("place", ["a server", "a file"])
def test_mlflow_shows_the_runs_and_a_second_export_adds_only_new_ones(results, tmp_path, browser, place):
    import mlflow

    file = f"sqlite:///{(tmp_path if place == 'a server' else results) / 'mlflow.db'}"
    server = [beside("mlflow"), "server", "--backend-store-uri", file, "--workers", "1", "--host", "127.0.0.1"]
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with served(tmp_path, *server, "--port", "PORT", **off) as address:
        uri = ["--uri", address] if place == "a server" else []
        assert export(results, "--to", "mlflow", *uri)[0].startswith("runs added: 2, already there: 0")
        write_run(results, outcomes(0.5, 32, 2), method="full", seed=2, **SST2)
        assert export(results, "--to", "mlflow", *uri)[0].startswith("runs added: 1, already there: 2")
        client = mlflow.MlflowClient(address)
        experiment = client.get_experiment_by_name("mine").experiment_id
        runs = {run.data.tags["run_id"]: run for run in client.search_runs([experiment])}
        frame = tables.records(results).set_index("run_id")
        assert runs.keys() == set(frame.index)
        for number, run in runs.items():
            assert run.data.params["config.seed"] == str(frame.loc[number, "config.seed"])
            assert run.data.metrics["metrics.accuracy"] == frame.loc[number, "metrics.accuracy"]
            assert run.data.metrics["cost.flops"] == frame.loc[number, "cost.flops"]
            assert (run.info.status, run.data.metrics["curve.loss"]) == ("FINISHED", 0.5)
        browser.open(f"{address}/#/experiments/{experiment}/runs/{run.info.run_id}")
        browser.wait_for("metrics.accuracy")
        browser.wait_for(f"{run.data.metrics['metrics.accuracy']:.3}"[:4])


@needs("mlflow")
def test_an_mlflow_that_does_not_answer_is_one_sentence(results):
    done = call("export", results, "--to", "mlflow", "--uri", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("MLflow at http://127.0.0.1:9 cannot be used: ")
    assert "Traceback" not in done.stderr


@needs("trackio")
def test_trackio_shows_the_runs_and_a_second_export_adds_only_new_ones(results, tmp_path, browser):
    place = results / "trackio"
    assert export(results, "--to", "trackio")[0].startswith("runs added: 2, already there: 0")
    path = write_run(results, outcomes(0.5, 32, 2), method="full", seed=2, **SST2)
    assert export(results, "--to", "trackio")[0].startswith("runs added: 1, already there: 2")
    asked = "import trackio; print(*((run.name, run.config['config.seed']) for run in trackio.Api().runs('mine')))"
    kept = {"TRACKIO_DIR": str(place)}
    done = subprocess.run([sys.executable, "-c", asked], env=os.environ | kept, capture_output=True, text=True)
    assert f"('{path.stem}', 2)" in done.stdout, done.stderr
    start = (
        "import sys, trackio; trackio.show('mine', open_browser=False, block_thread=True, server_port=int(sys.argv[1]))"
    )
    with served(tmp_path, sys.executable, "-c", start, "PORT", **kept) as address:
        browser.open(f"{address}/?project=mine")
        browser.wait_for("metrics.accuracy")


@needs("optuna_dashboard")
def test_optuna_s_dashboard_shows_a_search(tmp_path, browser):
    (tmp_path / "search").mkdir()
    rows = [{"config": {"learning_rate": rate}, "score": rate * 1e4, "run_ids": []} for rate in (1e-5, 3e-5)]
    search = {"space": {"name": "demo", "knobs": {"learning_rate": [1e-5, 3e-5]}}, "known": [], "trials": rows}
    search |= {"sampler": {"name": "tpe", "seed": 0}}
    (tmp_path / "search/demo-tpe-seed0.json").write_text(json.dumps(search))
    url = export(tmp_path, "--to", "optuna")[-1]
    code = "from optuna_dashboard._cli import main; main()"
    with served(tmp_path, sys.executable, "-c", code, url, "--port", "PORT") as address:
        browser.open(f"{address}/dashboard")
        browser.wait_for("demo-tpe-seed0")
        browser.open(f"{address}/dashboard/studies/1/trials")
        browser.wait_for("learning_rate")

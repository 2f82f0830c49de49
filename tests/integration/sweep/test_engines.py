"""Workers started by Dask and by SLURM's script; the machine divided among slots; what Ctrl-C means."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch
from complete import call, wait_for
from grid_files import written

from lrtl_utils.errors import InputError
from lrtl_utils.files import ROOT
from lrtl_utils.runs import store
from lrtl_utils.runs.run import Run
from lrtl_utils.study.tables import records
from lrtl_utils.sweep import claims, engines, workers
from lrtl_utils.sweep import sweep as sweeps
from lrtl_utils.sweep.grid import Cell, plan, read_grid
from lrtl_utils.sweep.workers import END, FORK, Plan, Slot, ask_to_stop, latest, read_plan, write_plan

SMALL = {"dataset": "digits", "model": "efficientnet_lite0", "method": "linear_probe", "image_size": 32}

SWEEP = [sys.executable, "-m", "lrtl_utils", "sweep"]


@pytest.mark.parametrize("words", [["script.py"], pytest.param(["-m", "script"], marks=pytest.mark.slow)], ids=" ".join)
def test_a_script_that_starts_workers_is_not_run_again_by_them(words, tmp_path):
    file = tmp_path / "plan.json"
    write_plan(Plan(tmp_path, tuple(plan(read_grid(written(tmp_path, SMALL)))), {}), file)
    ask_to_stop(file, END)
    (tmp_path / "script.py").write_text(
        f"""
from pathlib import Path
from lrtl_utils.sweep import engines
print("once")
with engines.local(Path({str(file)!r}), [engines.Slot(1)]) as running:
    while running().left:
        pass
"""
    )
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, *words], **options)
    assert (done.stdout, done.stderr, done.returncode) == ("once\n", "", 0)


def test_a_cell_that_failed_before_is_run_once_more_although_the_clock_was_set_back(tmp_path):
    (tmp_path / "own.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(40)))
    asked = {"dataset": str(tmp_path / "own.csv"), "method": "tfidf", "train_size": 20, "test_limit": 4}
    cells = plan(read_grid(written(tmp_path, asked)))
    with (tmp_path / "own.csv").open("a") as file:
        file.write("more,a\n")  # other data than were planned, so the cell fails
    assert len(sweeps.sweep(cells, tmp_path).failed) == 1
    (path,) = tmp_path.glob("runs/*/*.json")
    first = path.read_text()
    os.utime(path, (time.time() + 3600,) * 2)
    outcome = sweeps.sweep(cells, tmp_path, stop_after_seconds=120)
    assert (len(outcome.failed), outcome.left) == (1, 0)
    assert path.read_text() != first


def test_a_cell_that_another_sweep_completed_meanwhile_is_not_run_again(tmp_path):
    (cell,) = plan(read_grid(written(tmp_path, {"dataset": "news_sample", "method": "tfidf", "train_size": 20})))
    store.failed(tmp_path, cell.id, cell.config, {}, "of the past", time.time())
    begun = []

    @contextlib.contextmanager
    def engine(file, slots):
        begun.append(read_plan(file))
        with engines.local(file, slots) as running:
            yield running

    assert sweeps.sweep([cell], tmp_path, engine=engine).completed == 1
    assert latest(cell, begun[0])[1]["status"] == "completed"


def test_a_worker_that_dies_is_replaced_and_the_cell_that_it_had_is_run(tmp_path, monkeypatch):
    def kill_once():
        if not killed and list(tmp_path.glob("work/*/log.txt")):
            killed.append(claims.held(tmp_path)[0].process)
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(engines, "LOOK_SECONDS", 0.1)
    asked = {"dataset": "news_sample", "method": "tfidf", "train_size": 20, "test_limit": 20}
    cells, killed = plan(read_grid(written(tmp_path, asked))), []
    outcome = sweeps.sweep(cells, tmp_path, workers=1, meanwhile=kill_once)
    assert len(killed) == 1
    assert (outcome.completed, outcome.failed, outcome.left) == (1, [], 0)


def test_a_model_that_cannot_be_read_fails_its_cells_alone(mirrored, tmp_path, monkeypatch):
    shutil.copytree(mirrored, tmp_path / "mirror")
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path / "mirror"))
    (config,) = (tmp_path / "mirror").rglob("distilbert*/config.json")
    config.write_text(config.read_text()[:-20])
    blocks = {"torn": {"model": "distilbert", "method": "full", "max_length": 8}, "whole": {"method": "tfidf"}}
    asked = {"dataset": "sst2", "train_size": 8, "test_limit": 4, "device": "cpu", "blocks": blocks}
    outcome = sweeps.sweep(plan(read_grid(written(tmp_path, asked))), tmp_path / "results")
    assert (outcome.completed, outcome.left) == (1, 0)
    ((cell, _),) = outcome.failed
    assert cell.config.model == "distilbert"


def test_where_executed_notebooks_cannot_be_kept_the_reason_is_on_the_record(mirrored, tmp_path, monkeypatch):
    monkeypatch.setenv("LRTL_MIRROR", str(mirrored))
    (tmp_path / "results").mkdir()
    (tmp_path / "results/executed").write_text("a file, and not a folder")
    asked = {"dataset": "sst2", "method": "tfidf", "train_size": 16, "test_limit": 8}
    ((_, reason),) = sweeps.sweep(plan(read_grid(written(tmp_path, asked))), tmp_path / "results").failed
    assert re.fullmatch(r".*/results/executed(/sst2)?: .+", reason)
    assert records(tmp_path / "results", "failed")["error"].tolist() == [reason]


def test_workers_have_the_environment_of_today(mirrored, tmp_path, monkeypatch):
    shutil.copytree(mirrored, tmp_path / "mirror")  # a place that the process that workers are forked from has not seen
    engines.clean_forks()
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path / "mirror"))
    asked = {"dataset": "sst2", "method": "tfidf", "train_size": 16, "test_limit": 8}
    assert sweeps.sweep(plan(read_grid(written(tmp_path, asked))), tmp_path / "results").completed == 1


def test_the_plan_of_a_sweep_that_was_killed_is_removed_by_the_next(tmp_path):
    def killed():
        with sweeps._plan_file(Plan(tmp_path, (), {})) as file:
            ask_to_stop(file, END)
            os._exit(9)

    process = FORK.Process(target=killed)
    process.start()
    process.join()
    assert len(list((tmp_path / "sweeps").iterdir())) == 2
    with sweeps._plan_file(Plan(tmp_path, (), {})) as first, sweeps._plan_file(Plan(tmp_path, (), {})) as second:
        assert set((tmp_path / "sweeps").iterdir()) == {first, second}


def test_a_sweep_may_be_called_beside_the_main_thread():
    def signals():
        with sweeps._signals() as received:
            return received

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(signals).result() == []


def test_a_plan_may_lie_in_a_folder_whose_name_is_not_utf8(tmp_path):
    cells = tuple(plan(read_grid(written(tmp_path, SMALL))))
    asked = Plan(tmp_path / "caf\udce9", cells, {"0123456789ab": "15"}, memory_limit_mib=3.0)
    write_plan(asked, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == asked


@pytest.mark.slow
def test_dask_on_loopback_runs_every_cell_once(tmp_path):
    grid = written(tmp_path, SMALL | {"seed": [0, 1]})
    done = call("sweep", grid, "--results", tmp_path / "out", "--engine", "dask", "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 completed, 0 already done, 0 failed" in done.stdout
    assert set(records(tmp_path / "out", "completed")["run_id"]) == {cell.id for cell in plan(read_grid(grid))}
    assert not list((tmp_path / "out").glob("claims/*.json"))


@pytest.mark.slow
def test_cells_that_dask_leaves_are_explained(tmp_path, monkeypatch, capsys):
    out, grid = tmp_path / "out", written(tmp_path, SMALL)
    (out / "runs").mkdir(parents=True)
    (out / "runs" / "digits").write_text("in the way of the folder")
    done = call("sweep", grid, "--results", out, "--engine", "dask")
    assert done.stdout.endswith("The output of the Dask workers or of the SLURM jobs says why cells are left.\n")

    monkeypatch.setattr(engines, "REPLACEMENTS", 0)
    (tmp_path / "plan.json").write_text("torn")
    with engines.dask(tmp_path / "plan.json", [Slot(1)]) as running:
        wait_for(lambda: not running().left)
    assert "in place of one that failed: a worker of the sweep ended with status" in capsys.readouterr().err


def test_nobody_without_its_keys_can_talk_to_the_cluster_of_a_sweep(tmp_path):
    from distributed import Client, Security, default_client

    file = tmp_path / "plan.json"
    write_plan(Plan(tmp_path, (), {}), file)
    with engines.dask(file, [Slot(1)]):
        place = default_client().scheduler.address.partition("://")[2]
        assert os.getpgrp() not in default_client().run(os.getpgrp).values()  # Ctrl-C does not reach its workers
        with pytest.raises(OSError, match=r"tcp://"):
            Client(f"tcp://{place}", timeout=5)
        with pytest.raises(OSError, match=r"TLS certificate does not match"):
            Client(f"tls://{place}", timeout=60, security=Security.temporary())


@pytest.mark.slow
def test_a_sweep_that_has_lost_its_workers_says_so_and_ends_at_ctrl_c(tmp_path, monkeypatch):
    from distributed import LocalCluster

    @contextlib.contextmanager
    def losing(file, slots):
        with engines.dask(file, slots, cluster.scheduler_address) as running:
            cluster.scale(0)
            yield running

    def report(line):
        said.append(line)
        if line.startswith("No worker for "):
            os.kill(os.getpid(), signal.SIGINT)

    said, cells = [], plan(read_grid(written(tmp_path, SMALL)))
    monkeypatch.setattr(sweeps, "ALONE_SECONDS", 0.0)
    options = {"host": "127.0.0.1", "dashboard_address": None, "resources": {engines.RESOURCE: 1}}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster, pytest.raises(KeyboardInterrupt):
        sweeps.sweep(cells, tmp_path, engine=losing, report=report)
    assert any(line.startswith("No worker for ") and line.endswith("Ctrl-C ends the sweep.") for line in said)
    assert said[-1] == "No worker is at work; those that are queued are cancelled."


def test_a_scheduler_whose_workers_offer_no_slot_is_refused_with_what_would_be_right(tmp_path):
    from distributed import LocalCluster

    options = {"host": "127.0.0.1", "dashboard_address": None, "processes": False, "protocol": "tcp"}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        address = cluster.scheduler_address
        with (
            pytest.raises(InputError, match=f"dask worker {address} --nthreads 1 --resources slot=1"),
            engines.dask(tmp_path / "plan.json", [Slot(1)], address),
        ):
            pass


def test_the_job_script_asks_slurm_for_what_was_given_and_dask_for_one_slot():
    directives = ["--gres=gpu:1", "--nice"]
    given = {"cores": "4", "memory": "16GB", "queue": "gpu", "walltime": "02:00:00", "job_extra_directives": directives}
    given["python"] = "apptainer exec my.sif python"
    script = engines.job_script(given)
    for line in ("#SBATCH -p gpu", "#SBATCH --cpus-per-task=4", "#SBATCH -t 02:00:00", "#SBATCH --gres=gpu:1"):
        assert line in script.splitlines()
    assert "\napptainer exec my.sif python -m " in script
    assert "--resources slot=1" in script
    assert "--nthreads 4" in script
    assert " tls://" in script
    assert "--tls-key " in script


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"interface": "ib9"}, "'ib9' is not a valid network interface"),
        ({"quee": "gpu"}, r"got an unexpected keyword argument 'quee'\.$"),
        ({"job_cpu": "many"}, "invalid literal for int"),
        ({"memory": "lots"}, r"Could not interpret 'lots' as a byte unit\.$"),
    ],
)
def test_parameters_that_slurm_jobs_cannot_have_are_one_sentence(given, said):
    with pytest.raises(InputError, match=f"^SLURM parameters cannot be used: .*{said}"):
        engines.job_script({"cores": "2", "memory": "1GB"} | given)


@pytest.mark.parametrize("name", ["extra", "worker_extra_args"])
def test_a_parameter_that_would_be_ignored_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=rf"--slurm {name}=… is not possible, because the sweep sets it"):
        engines.require_resources({"cores": "2", "memory": "1GB", name: "--foo"}, tmp_path)


def test_a_job_may_have_more_processors_than_its_cell_has_threads():
    script = engines.job_script({"cores": "2", "memory": "1GB", "job_cpu": "4"})
    assert "#SBATCH --cpus-per-task=4" in script
    assert "--nthreads 2" in script


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_one_sentence(tmp_path):
    words = [*SWEEP, written(tmp_path, SMALL), "--results", tmp_path, "--engine", "dask"]
    done = subprocess.run([*words, "--scheduler", "tcp://127.0.0.1:9"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "No Dask scheduler can be used at tcp://127.0.0.1:9" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_every_slot_of_gpu_cells_sees_one_card(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5d2a")
    cards = [slot.gpu for slot in engines.slots(2, on_gpu=True)]
    assert cards == ["3", "GPU-5d2a"]
    with pytest.raises(InputError, match="3 workers need one GPU each, but 2 can be used here"):
        engines.slots(3, on_gpu=True)
    assert {slot.gpu for slot in engines.slots(3, on_gpu=False)} == {None}
    assert [slot.threads for slot in engines.slots(10**6, on_gpu=False)[:1]] == [1]


def test_the_cores_are_divided_among_the_slots(monkeypatch):
    monkeypatch.setattr(engines, "cores", lambda: 6)
    assert [slot.threads for slot in engines.slots(2, on_gpu=False)] == [3, 3]
    assert [slot.threads for slot in engines.slots(4, on_gpu=False)] == [1] * 4


def test_the_cards_are_those_that_torch_counts(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # of a machine without NVML, say
    assert engines.visible_gpus() == ["0", "1"]


def test_after_ctrl_c_the_reason_of_a_failure_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "LOOK_SECONDS", 0.1)  # the cell lives half a second
    sent, said, (cell,) = [], [], plan(read_grid(written(tmp_path, SMALL)))

    def interrupt():
        if not sent and list(tmp_path.glob("claims/*")):
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    with pytest.raises(KeyboardInterrupt):
        sweeps.sweep([cell], tmp_path, meanwhile=interrupt, memory_limit_mib=1, report=said.append)
    assert said[-1] == f"failed: {cell}: out of memory: it held more than its limit of 1 MiB"


def test_ctrl_c_does_not_take_back_that_the_running_cells_are_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "LOOK_SECONDS", 0.0)
    crew, received, said = engines.Crew(left=1, at_work=1), [], []
    watching = sweeps._watch(tmp_path / "plan.json", lambda: crew, received, said.append, 0)
    for _ in range(3):
        next(watching)
    received.append(signal.SIGINT)
    next(watching)
    assert (tmp_path / "plan.stop").read_text() == END
    assert [line[:20] for line in said] == ["The time is over, so", "The running cells ar"]


def test_the_failed_record_of_a_half_says_what_was_planned(tmp_path):
    planned = Cell.of("image_classification", Run(**SMALL, batch_size=64))
    half = Cell.of("image_classification", Run(**SMALL, batch_size=32))
    claims.take(tmp_path, half.id, "words")
    (claim,) = (tmp_path / "claims").iterdir()
    workers._write_failed(tmp_path, planned, half, "past its deadline", time.time(), claim)
    ((path,), one) = store.paths(tmp_path), half.config
    record = json.loads(path.read_text())
    assert (one.batch_size, record["config"]["batch_size"], record["config"]["asked"]["batch_size"]) == (32, 32, 64)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)], ids=["ctrl-c twice", "sigterm"])
def test_ctrl_c_twice_or_sigterm_ends_the_running_cells_at_their_checkpoints(sent, tmp_path):
    endless = {"dataset": "news_sample", "method": "from_scratch", "epochs": 1000, "train_size": 16, "max_length": 16}
    grid, out = written(tmp_path, endless | {"seed": [0, 1]}), tmp_path / "out"
    process = subprocess.Popen([*SWEEP, grid, "--results", out], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: list(out.glob("work/*/progress.json")))
    *first, last = sent
    for number in first:
        process.send_signal(number)
        lines = iter(process.stdout.readline, "")
        assert any("the running ones finish (Ctrl-C again ends them)" in line for line in lines)
    process.send_signal(last)
    assert "ended at their checkpoints" in process.communicate(timeout=180)[0]
    assert process.returncode == 130
    assert len(list(out.glob("work/*/checkpoint.pt"))) == 1  # the second cell was never claimed
    assert not list(out.glob("runs/*/*.json"))


@pytest.mark.slow
def test_sigterm_to_all_processes_at_once_keeps_the_checkpoint_of_the_running_cell(tmp_path):
    endless = {"dataset": "news_sample", "method": "from_scratch", "epochs": 1000, "train_size": 16, "max_length": 16}
    grid, out = written(tmp_path, endless), tmp_path / "out"
    process = subprocess.Popen([*SWEEP, grid, "--results", out], cwd=ROOT, start_new_session=True)
    wait_for(lambda: list(out.glob("work/*/progress.json")))
    sweep = psutil.Process(process.pid)
    family = [sweep, *sweep.children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()  # as systemd does
    assert process.wait(timeout=180) == 130
    assert not psutil.wait_procs(family, timeout=30)[1]
    assert len(list(out.glob("work/*/checkpoint.pt"))) == 1
    assert not list(out.glob("runs/*/*.json"))


@pytest.mark.slow
def test_ctrl_c_while_the_workers_are_being_imported_ends_the_sweep_in_a_sentence(tmp_path):
    words = [*SWEEP, written(tmp_path, SMALL), "--results", tmp_path / "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True, **pipes)
    assert any("to run, 1 at a time" in line for line in iter(process.stdout.readline, ""))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said

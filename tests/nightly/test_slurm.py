"""On a real SLURM of one node: whatever happens to jobs, node or runner, every cell has one valid record in the end."""

import contextlib
import re
import signal
import subprocess
import sys

import psutil
import pytest
import slurm
import yaml
from complete import require_complete, wait_for

from lrtl_utils.files import ROOT
from lrtl_utils.sweep import claims

pytestmark = pytest.mark.skipif(bool(slurm.missing()), reason=f"No SLURM: not installed are {slurm.missing()}.")
TINY = {"dataset": "reviews_sample", "method": "tfidf", "test_limit": 20}
# Some seconds of training, so that something can happen in the middle.
TRAINED = {"dataset": "news_sample", "method": "from_scratch", "train_size": 32, "max_length": 16, "test_limit": 20}
TRAINED |= {"epochs": 4}
JOB = {"cores": 1, "memory": "1GB", "walltime": 10}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm.cluster(tmp_path_factory.mktemp("slurm"), cores=8) as own:
        own.environment["PYTHONPATH"] = str(ROOT)  # jobs run the package that is tested, wherever they start
        own.environment["LRTL_CHECKPOINT_SECONDS"] = "10"
        yield own


class Sweep:
    """A grid, its folder of results, and the command that runs it with a SLURM job a worker."""

    def __init__(self, cluster, folder, grid, workers=2, **job):
        self.cluster, self.grid, self.results = cluster, folder / "grid.yaml", folder / "out"
        self.grid.write_text(yaml.safe_dump(grid))
        parameters = JOB | {"log_directory": folder, "job_name": folder.name} | job
        self.words = [sys.executable, "-m", "lrtl_utils", "sweep", self.grid, "--results", self.results]
        self.words += ["--workers", str(workers), "--engine", "slurm"]
        for name, value in parameters.items():
            self.words += ["--slurm", f"{name}={value}"]

    def start(self):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.runner = subprocess.Popen(self.words, cwd=ROOT, env=self.cluster.environment, **options)
        return self.runner

    def run(self):
        """Run it to its end and return what it printed."""
        runner = self.start()
        said, _ = runner.communicate(timeout=300)
        assert runner.returncode == 0, said
        return said

    def wait_for_training(self):
        """Wait until a cell has come some way."""
        wait_for(lambda: list(self.results.glob("work/*/progress.json")), seconds=120)

    def require_complete(self):
        """Every cell has exactly one valid record, nothing is claimed, and no job is left."""
        require_complete(self.grid, self.results)
        wait_for(lambda: not self.jobs())

    def jobs(self, *options):
        return self.cluster.jobs(f"--name={self.results.parent.name}", *options)


@pytest.fixture
def sweep(cluster, tmp_path):
    made = []

    def make(grid, **options):
        made.append(Sweep(cluster, tmp_path, grid, **options))
        return made[-1]

    yield make
    for one in made:
        one.runner.kill()


def test_on_a_node_that_drains_a_grid_runs_to_its_end_and_a_queued_sweep_can_be_ended(cluster, sweep):
    run = sweep(TRAINED | {"seed": [0, 1]})
    runner = run.start()
    run.wait_for_training()
    cluster.call("scontrol", "update", f"nodename={slurm.NODE}", "state=drain", "reason=test")
    try:
        said, _ = runner.communicate(timeout=300)
        assert "2 completed, 0 already done, 0 failed" in said
        run.require_complete()
        assert not [path for path in run.results.rglob("*") if "dask" in path.name or path.parent.name == "sweeps"]

        queued = sweep(TINY, workers=1)
        runner = queued.start()
        (job,) = wait_for(lambda: queued.jobs("--states=PENDING"))
        runner.send_signal(signal.SIGINT)
        said, _ = runner.communicate(timeout=180)
        assert runner.returncode == 130, said
        assert "those that are queued are cancelled" in said
        assert job not in queued.jobs()
    finally:
        cluster.call("scontrol", "update", f"nodename={slurm.NODE}", "state=resume")


def test_jobs_that_are_cancelled_or_whose_walltime_ends_are_replaced(sweep):
    run = sweep(TRAINED | {"epochs": 20, "seed": [0, 1]})  # long enough for both to be running, and one to be cancelled
    runner = run.start()
    wait_for(lambda: len(claims.held(run.results)) == 2, seconds=120)
    cancelled, other = run.jobs()
    workers = {claim.process for claim in claims.held(run.results)}
    run.cluster.call("scancel", cancelled)
    wait_for(lambda: sum(map(psutil.pid_exists, workers)) == 1)  # the worker of the cancelled job takes a moment to end
    (worker,) = filter(psutil.pid_exists, workers)
    held = wait_for(lambda: psutil.Process(worker).children(recursive=True))
    for process in held:  # what is stopped does not end before its walltime, however fast this machine is
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    run.cluster.call("scontrol", "update", f"jobid={other}", "TimeLimit=1")
    wait_for(lambda: other in run.jobs("--states=TIMEOUT"), seconds=180)
    for process in held:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
    said, _ = runner.communicate(timeout=200)
    assert runner.returncode == 0, said
    run.require_complete()


def test_a_runner_that_is_killed_leaves_nothing_and_goes_on_when_started_again(sweep):
    run = sweep(TRAINED | {"seed": [0, 1]}, workers=1)
    runner = run.start()
    run.wait_for_training()
    runner.kill()
    runner.communicate()
    run.run()
    run.require_complete()


def test_jobs_that_slurm_refuses_are_one_sentence(sweep):
    runner = sweep(TINY, workers=1, queue="nowhere").start()
    said, _ = runner.communicate(timeout=180)
    assert runner.returncode == 2, said
    assert said.splitlines()[-1].startswith("SLURM did not take the jobs: ")
    assert "invalid partition specified: nowhere" in said.splitlines()[-1]


def test_the_job_array_of_the_clusters_page_shares_a_grid(cluster, tmp_path):
    page = (ROOT / "docs/clusters.md").read_text()
    script = re.search(r"```bash\n(#!/bin/bash\n#SBATCH --array.*?)```", page, re.DOTALL)[1]
    (tmp_path / ".venv").symlink_to(sys.prefix)
    grid = tmp_path / "notebooks/grids/demo.yaml"
    grid.parent.mkdir(parents=True)
    grid.write_text(yaml.safe_dump(TINY | {"seed": [0, 1, 2, 3]}))
    (tmp_path / "array.sh").write_text(script)
    cluster.call("sbatch", f"--chdir={tmp_path}", "--job-name=array", tmp_path / "array.sh")
    wait_for(lambda: not cluster.jobs("--name=array"), seconds=300)
    states = cluster.call("squeue", "--noheader", "--name=array", "--states=all", "--format=%T").split()
    assert states == ["COMPLETED"] * 8
    require_complete(grid, tmp_path / "results/cluster")

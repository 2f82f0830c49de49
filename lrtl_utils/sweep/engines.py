"""Start workers: on this machine, by Dask, or by SLURM through Dask. The workers claim the cells that they run."""

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

import joblib

from lrtl_utils.errors import InputError, printable, reason
from lrtl_utils.sweep import kernels
from lrtl_utils.sweep.workers import END_SECONDS, Slot, kill_tree, work

LOOK_SECONDS = 1.0  # between two looks at what the workers did
REPLACEMENTS = 5  # of dead workers, for each slot
WALLTIMES = 100  # of SLURM jobs, each submitted in place of one that ended, for each slot
RESOURCE = "slot"  # of a Dask worker: how many cells it takes at a time
NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # what Dask serves over HTTP has no keys


class Crew(NamedTuple):
    """How many workers have not ended, and how many of them are at work: the others are queued or lost."""

    left: int
    at_work: int


Running = Callable[[], Crew]  # dead workers are replaced meanwhile


@contextlib.contextmanager
def local(file: Path, slots: Sequence[Slot]) -> Iterator[Running]:
    """Start one process for each slot on this machine; it ends when this process does, and is replaced if it dies."""

    def start(slot: Slot) -> tuple[Any, Connection]:
        """A worker process, and the pipe whose end tells it that this process is gone."""
        theirs, ours = multiprocessing.Pipe(duplex=False)
        process = clean_forks().Process(target=_work, args=(dict(os.environ), file, slot, theirs))
        with _main_hidden():
            process.start()
        theirs.close()
        return process, ours

    crew, spare = [start(slot) for slot in slots], REPLACEMENTS * len(slots)

    def running() -> Crew:
        nonlocal spare
        for i, slot in enumerate(slots):
            if crew[i][0].exitcode not in {None, 0} and spare:
                spare -= 1
                crew[i] = start(slot)
        alive = sum(process.is_alive() for process, _ in crew)
        return Crew(alive, alive)

    try:
        yield running
    finally:
        for _, pipe in crew:
            pipe.close()  # a worker that is still there then ends its cell at its checkpoint
        for process, _ in crew:
            process.join(END_SECONDS)
            if process.is_alive():
                kill_tree(process.pid)


@contextlib.contextmanager
def dask(file: Path, slots: Sequence[Slot], address: str | None = None) -> Iterator[Running]:
    """Start one task for each slot on a Dask cluster: the one at `address`, or one on loopback until the sweep ends.

    Each task starts a worker in a process of its own, and holds one unit of the resource `slot`. The cluster on
    loopback has keys of its own, so no other user of the machine can talk to it.
    """
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if address is None:
            options = {"host": "127.0.0.1", "dashboard_address": None, "resources": {RESOURCE: 1}, "security": True}
            # Ctrl-C in the terminal is for the sweep alone. Dask may run this twice.
            options["preload"] = ["import os\nif os.getpgrp() != os.getpid(): os.setsid()\n"]
            cluster = LocalCluster(n_workers=len(slots), threads_per_worker=1, scheduler_kwargs=NO_DASHBOARD, **options)
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        else:
            try:
                client = stack.enter_context(Client(address, timeout=5))
            except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:  # keys that are wrong, say
                raise InputError(f"No Dask scheduler can be used at {address}: {reason(error)}.") from None
        if not _offered(client):
            raise InputError(
                f"No worker of the Dask scheduler at {address} offers a slot: start one with "
                f"`dask worker {address} --nthreads 1 --resources {RESOURCE}=1`."
            )
        yield stack.enter_context(_tasks(client, file, slots))


@contextlib.contextmanager
def slurm(file: Path, slots: Sequence[Slot], parameters: Mapping[str, Any]) -> Iterator[Running]:
    """Submit one SLURM job for each slot, by dask-jobqueue with its parameters: cores and memory, queue, walltime, …

    Its keys lie beside the plan, readable by this user alone. A job that SLURM ended is submitted again.
    """
    from distributed import Client

    def running() -> Crew:
        cluster.scale(jobs=len(slots))
        return at_work()

    with _slurm_cluster(parameters, file.parent) as cluster, Client(cluster) as client:
        _submit(cluster, len(slots))
        with _tasks(client, file, [Slot(int(parameters["cores"]))] * len(slots)) as at_work:
            yield running


def require_resources(parameters: Mapping[str, Any], results: Path) -> None:
    """Raise an `InputError` unless the parameters of a SLURM job say how many cores and how much memory it has.

    Likewise where one of them is set by the sweep, or where a path cannot be written into the job's script.
    """
    missing = [name for name in ("cores", "memory") if name not in parameters]
    if missing:
        raise InputError(f"A SLURM job needs --slurm {missing[0]}=…; give the cores and the memory of one job.")
    if not str(parameters["cores"]).isdecimal() or int(parameters["cores"]) < 1:
        raise InputError(f"--slurm cores={parameters['cores']} must be a whole number of at least 1.")
    # dask-jobqueue ignores `extra`, an older name of one of these.
    if taken := ({*_set_by_sweep(results), "extra"} & parameters.keys()):
        raise InputError(f"--slurm {min(taken)}=… is not possible, because the sweep sets it; leave it out.")
    for path in [results] if "python" in parameters else [results, sys.executable]:
        # dask-jobqueue writes it unquoted, so every job would end at once, without a word here.
        if odd := re.search(r"[^\w@%+=:,./~-]", str(path)):
            raise InputError(
                f"{path} contains {odd[0]!r}, which the job's script cannot hold; use a path without it, or submit an "
                "array of jobs as docs/clusters.md shows."
            )


def job_script(parameters: Mapping[str, Any]) -> str:
    """The script that SLURM would be given for each job; nothing is submitted."""
    with _slurm_cluster(parameters, Path(gettempdir())) as cluster:
        return cluster.job_script()


def slots(workers: int, on_gpu: bool) -> list[Slot]:
    """The machine divided among that many workers: its threads, and for cells on a GPU one card each."""
    threads = max(1, cores() // workers)
    if not on_gpu:
        return [Slot(threads)] * workers
    cards = visible_gpus()
    if workers > len(cards):
        raise InputError(f"{workers} workers need one GPU each, but {len(cards)} can be used here; lower --workers.")
    return [Slot(threads, card) for card in cards[:workers]]


def visible_gpus() -> list[str]:
    """The ids of the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` writes them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [card.strip() for card in given.split(",") if card.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def cores() -> int:
    """The cores that this process may use: a batch system, `taskset` or a container may leave it only some."""
    return joblib.cpu_count()


def _offered(client: Any) -> int:
    """How many slots the workers of the cluster offer; 0 where the scheduler is lost."""
    workers = client.scheduler_info(-1).get("workers", {})
    return sum(worker["resources"].get(RESOURCE, 0) for worker in workers.values())


def _slurm_cluster(parameters: Mapping[str, Any], keys: Path) -> Any:
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, on_ctrl_c)  # that import makes Ctrl-C leave the process, with status 0
    try:
        numbers = {name: int(parameters[name]) for name in ("cores", "job_cpu") if name in parameters}
        return SLURMCluster(**{"python": sys.executable, **parameters} | numbers | _set_by_sweep(keys))
    except (TypeError, ValueError, RuntimeError) as error:  # the last where its scheduler cannot start
        cause = error.__cause__ if isinstance(error.__cause__, TypeError | ValueError) else error  # Dask adds to it
        raise InputError(f"SLURM parameters cannot be used: {reason(cause)}.") from None


def _set_by_sweep(keys: Path) -> dict[str, Any]:
    """The parameters of a SLURM job that are not the user's; `keys` is the folder for the keys of the connection."""
    return {
        "processes": 1,
        "worker_extra_args": ["--resources", f"{RESOURCE}=1"],
        "scheduler_options": NO_DASHBOARD | {"allowed_failures": WALLTIMES},
        "security": True,
        "shared_temp_directory": str(keys),
    }


def _submit(cluster: Any, jobs: int) -> None:
    """Submit the jobs; unlike `cluster.scale`, which only logs it, raise an `InputError` if SLURM refuses them."""
    from distributed import Status

    async def submitted() -> None:
        await cluster

    for _ in range(jobs):
        cluster.worker_spec.update(cluster.new_worker_spec())
    try:
        cluster.sync(submitted)
    except (OSError, RuntimeError) as error:
        for job in cluster.workers.values():
            job.status = Status.failed  # the cluster could not be closed with jobs that have not begun
        said = " ".join(str(error).rpartition("stderr:")[2].split())
        raise InputError(f"SLURM did not take the jobs: {said}") from None


def clean_forks() -> Any:
    """A multiprocessing context that forks from a clean process, which starts now and imports everything once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(kernels.IMPORTED)
    resource_tracker.ensure_running()  # first, since it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C would end that process at its imports
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _work(environment: Mapping[str, str], file: Path, slot: Slot, owner: Connection) -> None:
    """`work` in the environment of the process that started it: the forks are of one that was started earlier."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # it is blocked in the process that this is a fork of
    os.environ.clear()
    os.environ.update(environment)
    work(file, slot, owner)


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Processes that are started meanwhile do not run the user's script, where `compare` may be called, once more."""
    main = sys.modules["__main__"].__dict__
    hidden = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


@contextlib.contextmanager
def _tasks(client: Any, file: Path, slots: Sequence[Slot]) -> Iterator[Running]:
    options = {"resources": {RESOURCE: 1}, "retries": REPLACEMENTS, "pure": False}
    futures = [
        client.submit(_work_in_process, str(file), slot, key=f"{file.stem}-{i}", **options)
        for i, slot in enumerate(slots)
    ]

    def running() -> Crew:
        left = sum(not future.done() for future in futures)
        return Crew(left, min(left, _offered(client)))

    try:
        yield running
    finally:
        for said in {str(future.exception()) for future in futures if future.status == "error"}:
            print(printable(f"No further worker is started in place of one that failed: {said}"), file=sys.stderr)
        if left := [future for future in futures if not future.done()]:  # none where the scheduler is lost
            client.cancel(left, force=True)


def _work_in_process(file: str, slot: Slot) -> None:
    """A Dask task: run a worker in its own process, whose standard input closes when this process or its sweep is gone.

    Dask cancels the task of a sweep that it lost, but cannot end it.
    """
    from distributed import get_worker

    dask_worker = get_worker()
    task = dask_worker.state.tasks[dask_worker.get_current_task()]
    words = [sys.executable, "-P", "-m", "lrtl_utils", "work", file, "--threads", str(slot.threads)]
    words += ["--gpu", slot.gpu] if slot.gpu is not None else []
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        while process.poll() is None:
            if task.state == "cancelled":
                process.stdin.close()
            time.sleep(LOOK_SECONDS)
        if process.returncode and task.state != "cancelled":
            raise RuntimeError(f"a worker of the sweep ended with status {process.returncode}")  # another is started

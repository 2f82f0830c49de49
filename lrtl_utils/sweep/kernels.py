"""Kernels forked from a process that has imported everything: imports are most of what a cell costs beyond its work."""

import contextlib
import importlib
import io
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, ClassVar

from jupyter_client.provisioning import LocalProvisioner

NAME = "lrtl-forked"  # as pyproject.toml makes it known to Jupyter
PROVISIONER = "JUPYTER_DEFAULT_PROVISIONER_NAME"
# Importing these starts no thread and touches no device, so a process that has done so may be forked.
IN_KERNELS = [
    "ipykernel.kernelapp",
    "lrtl_utils.methods.solver",
    "lrtl_utils.study.figures",
    "lrtl_utils.methods.loop",
    "pyarrow.parquet",
    "lrtl_utils.models.build",
    "transformers.models.bert.modeling_bert",
]
IN_SUMMARIES = [
    "ipykernel.kernelapp",
    "lrtl_utils.study.answers",
    "lrtl_utils.study.effects",
    "lrtl_utils.study.figures",
]
IMPORTED = [
    *IN_KERNELS,
    "lrtl_utils.sweep.kernels",
    "lrtl_utils.sweep.workers",
    "papermill",
    # What each cell would import by and by.
    "IPython.core.debugger",
    "PIL.features",
    "lrtl_utils.deploy.export",
    "lrtl_utils.runs.client",
    "matplotlib.backends.backend_agg",
    "pyarrow.pandas_compat",
    "sklearn.metrics",
    "tornado.platform.asyncio",
    "transformers.models.bert.tokenization_bert",
    "transformers.optimization",
]


def import_all(modules: Sequence[str]) -> None:
    """Import modules by their names."""
    for module in modules:
        importlib.import_module(module)


def preload(model: str) -> None:
    """Do in this process what every cell would do first, so that its forks need not: import, load a model, and draw.

    The number of threads stays one while tensors are filled, since a pool of threads could not be forked.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # the other check could not be followed by a fork
    import_all(IMPORTED)
    import torch
    from matplotlib.figure import Figure

    from lrtl_utils.config import RunConfig
    from lrtl_utils.models.build import build
    from lrtl_utils.models.catalog import MODELS, find

    importlib.import_module("lrtl_utils.study.figures").style()  # by its name, as a notebook's code is known here
    axes = Figure().subplots()
    axes.set_title("0")
    axes.figure.savefig(io.BytesIO(), format="png")
    torch.set_num_threads(1)
    if model in MODELS and MODELS[model].library != "ours":
        with contextlib.suppress(Exception):  # whatever a library raises of torn files: the cell will say what is wrong
            build(RunConfig(model=model), MODELS[model].kinds[0], 2, find(model, fetch=False))


class ForkedKernel(LocalProvisioner):
    """Hands a kernel's connection file to the process that `forked_kernel` keeps waiting, instead of starting one."""

    waiting: ClassVar[tuple["_Process", Connection] | None] = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        self.process, pipe = ForkedKernel.waiting
        self.pid, self.cwd = self.process.pid, kwargs.get("cwd", os.getcwd())
        parent = f"--IPKernelApp.parent_handle={os.getpid()}"  # the kernel ends when this process does
        pipe.send(([*cmd[cmd.index("-f") :], parent], kwargs["env"], self.cwd))
        return self.connection_info

    async def kill(self, restart: bool = False) -> None:
        """Kill the kernel, and wait until it has ended: Jupyter would look for that ten times a second."""
        await super().kill(restart)
        self.process.wait()


@contextlib.contextmanager
def forked_kernel(modules: Sequence[str] = IN_KERNELS, threads: int | None = None) -> Iterator[None]:
    """In the block, the next kernel is a fork of this process; where forks are unsafe, Jupyter starts it itself.

    It imports at once those of its `modules` that this process has not. Without a number of `threads` it takes what
    torch takes. Call it before this process starts a thread or touches a device.
    """
    if sys.platform != "linux":
        yield
        return
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(theirs, ours, modules, threads))
    process.start()
    ForkedKernel.waiting = (_Process(process), ours)
    before = os.environ.get(PROVISIONER)
    os.environ[PROVISIONER] = NAME
    try:
        yield
    finally:
        os.environ.pop(PROVISIONER) if before is None else os.environ.update({PROVISIONER: before})
        ForkedKernel.waiting = None
        ours.close()
        process.kill()
        process.join()


class _Process:
    """A `multiprocessing.Process` with the interface of a `subprocess.Popen`, as Jupyter wants it."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.Process):
        self.process, self.pid = process, process.pid
        self.kill, self.terminate = process.kill, process.terminate

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self.process.join(timeout)
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _serve(pipe: Connection, other_end: Connection, modules: Sequence[str], threads: int | None) -> None:
    """Import what a kernel needs, wait for a connection file, and run as its kernel."""
    os.setsid()  # first of all: Ctrl-C is for the process that waits for this one
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # nobody debugs this kernel, and the import takes 0.3 s
    other_end.close()  # inherited; held open here, it would keep this process waiting after its parent has died
    import_all(modules)
    import matplotlib
    import pandas
    from ipykernel.kernelapp import IPKernelApp

    try:
        arguments, environment, folder = pipe.recv()
    except EOFError:
        return
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if threads:
        import torch

        torch.set_num_threads(threads)
    # What both would have chosen, had they been imported in a notebook.
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    pandas.options.display.max_columns = 20
    IPKernelApp.launch_instance(argv=arguments)

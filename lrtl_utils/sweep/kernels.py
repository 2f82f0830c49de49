"""Kernels forked from a process that has imported everything: imports are most of what a cell costs beyond its work."""

import contextlib
import importlib
import io
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, ClassVar

from jupyter_client.provisioning import LocalProvisioner

from lrtl_utils.errors import InputError

NAME = "lrtl-forked"  # as pyproject.toml makes it known to Jupyter
# With it jsonschema, which papermill imports, would build a parser of international addresses: that takes seconds, and
# a notebook has no such address.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
# Importing these starts no thread and touches no device, so a process that has done so may be forked.
IMPORTED = [
    "lrtl_utils.sweep.kernels",
    "papermill",
    "ipykernel.kernelapp",
    "lrtl_utils.methods.solver",
    "lrtl_utils.runs.notebook",
    "lrtl_utils.study.figures",
    "lrtl_utils.sweep.workers",
    "lrtl_utils.methods.loop",
    "pyarrow.parquet",
    "lrtl_utils.models.build",
    "transformers.models.bert.modeling_bert",
]
OF_MANY_CELLS = [
    "IPython.core.debugger",
    "PIL.features",
    "lrtl_utils.deploy.export",
    "lrtl_utils.methods.active",
    "matplotlib.backends.backend_agg",
    "matplotlib_inline.backend_inline",
    "pyarrow.pandas_compat",
    "sklearn.metrics",
    "tornado.platform.asyncio",
    "transformers.models.bert.tokenization_bert",
    "transformers.optimization",
]


def preload() -> None:
    """Import in this process what the cells of a task notebook import, so that its forks need not."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # the other check could not be followed by a fork
    for module in IMPORTED:
        importlib.import_module(module)


def preload_for_many(model: str) -> None:
    """`preload`, and do once what would be done first in every cell: load a model, and draw something.

    The number of threads stays one while tensors are filled, since a pool of threads could not be forked.
    """
    preload()
    import torch
    from matplotlib.figure import Figure

    from lrtl_utils.config import RunConfig
    from lrtl_utils.models.build import build
    from lrtl_utils.models.catalog import MODELS, find
    from lrtl_utils.study import figures

    for module in OF_MANY_CELLS:
        importlib.import_module(module)
    figures.style()
    axes = Figure().subplots()
    axes.set_title("0")
    axes.figure.savefig(io.BytesIO(), format="png")
    if model in MODELS and MODELS[model].library == "transformers":
        torch.set_num_threads(1)
        with contextlib.suppress(InputError):  # the cell will say what is wrong
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


@contextmanager
def forked_kernel(threads: int) -> Iterator[None]:
    """In the block, the next kernel is a fork of this process, made before anything else runs in it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(theirs, ours, threads))
    process.start()
    ForkedKernel.waiting = (_Process(process), ours)
    os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] = NAME
    try:
        yield
    finally:
        del os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"]
        ForkedKernel.waiting = None
        ours.close()
        process.join(5)
        process.kill()


class _Process:
    """A `multiprocessing.Process` with the face of a `subprocess.Popen`, as Jupyter wants it."""

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


def _serve(pipe: Connection, other_end: Connection, threads: int) -> None:
    """Wait for a connection file, then run as its kernel."""
    import torch
    from ipykernel.kernelapp import IPKernelApp

    sys.modules["debugpy"] = None  # type: ignore[assignment]  # nobody debugs this kernel, and the import takes 0.3 s
    other_end.close()  # inherited; held open here, it would keep this process waiting after its parent has died
    os.setsid()
    try:
        arguments, environment, folder = pipe.recv()
    except EOFError:
        return
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(threads)
    IPKernelApp.launch_instance(argv=arguments)

"""A run through its notebook: parameters in, papermill, a record out."""

import ast
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from lrtl_utils.config import RunConfig, read_config
from lrtl_utils.data.catalog import KINDS
from lrtl_utils.data.load import kind_of
from lrtl_utils.errors import InputError, require_name
from lrtl_utils.files import data_name, notebooks_folder, require_claim, write_text
from lrtl_utils.runs import store
from lrtl_utils.runs.run import check

FOLDER = notebooks_folder()
NOTEBOOK_OF = {"text": "text_classification", "image": "image_classification", "tokens": "named_entity_recognition"}
TERMINATION_SECONDS = 20.0  # a kernel's to write its checkpoint
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL_ENDED = "the kernel ended before the notebook did"
OUT_OF_MEMORY = "out of memory"  # how the reason of a run begins that would want a smaller batch
# Torch may only word it; the errors of CUDA, of Python and of numpy are also named so: …MemoryError.
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "unable to mmap")


class RunFailed(RuntimeError):
    """A run ended without a record that completes; its failed record says why."""

    def __init__(self, reason: str, path: Path):
        super().__init__(reason)
        self.path = path


def notebook_path(name: str) -> Path:
    """The file of the notebook `name`, given without number and suffix; `InputError` with the nearest name."""
    known = {path.stem.split("_", 1)[1]: path for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))}
    require_name("notebook", name, known)
    return known[name]


def summary_notebooks(folder: Path = FOLDER) -> list[Path]:
    """The notebooks that read records and make none."""
    return sorted(folder.glob("2?_*.ipynb"))


@lru_cache
def parameters_of(path: Path) -> dict[str, Any]:
    """Names and defaults of the notebook's cell tagged `parameters`; nothing is run.

    `InputError` if a line of it does not give a name a plain value.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]  # nbformat takes a second to import
    source = next(("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])), "")
    try:
        return dict(map(_assigned, ast.parse(source, "the cell").body))
    except (ValueError, SyntaxError) as error:
        raise InputError(f"The parameter cell of {path} cannot be read: {error}") from None


def _assigned(line: ast.stmt) -> tuple[str, Any]:
    match line:
        case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), value=ast.expr() as value):
            with suppress(ValueError, TypeError):
                return name, ast.literal_eval(value)
    first = ast.unparse(line).splitlines()[0]
    raise ValueError(f"each line must be a name, = and a plain value such as 3e-4, but one is `{first}`.")


def read_parameters(name: str, given: Mapping[str, Any], kind_of: Callable[..., str] = kind_of) -> RunConfig:
    """The config of one run of the notebook `name`, checked whole before anything heavy is imported.

    Whoever reads many at once gives a `kind_of` that remembers, so that a folder is looked through once.
    """
    defaults = parameters_of(notebook_path(name))
    if "dataset" not in defaults:
        raise InputError(f"Notebook {name!r} only reads records; run it with `lrtl summary`.")
    asked = read_config({key: value for key, value in defaults.items() if key in RunConfig.model_fields} | {**given})
    own, kind = kind_of(defaults["dataset"]), kind_of(asked.dataset, asked.text_column, asked.label_column)
    if own != kind:
        raise InputError(
            f"Notebook {name!r} is for {KINDS[own]}, but {asked.dataset!r} has {KINDS[kind]}; use {NOTEBOOK_OF[kind]}."
        )
    check(asked, kind_of)
    return asked


def run_notebook(
    name: str,
    asked: RunConfig,
    config: RunConfig,
    identity: str,
    results: Path,
    save_model: Path | None = None,
    instead_of: Mapping[str, Any] | None = None,
    claim: Path | None = None,
    shared: bool = False,
) -> Path:
    """Execute the notebook for a planned run unless its record is there; returns the record's path.

    The notebook refuses to run anything but `identity`. With `save_model` the model is kept there: a run that is done
    is done again, and its record stays as it is. `instead_of` are planned values that this run stands in for.
    `RunFailed` if no completed record came of it, or no model. An interrupted run keeps its checkpoint. `ClaimLost`,
    and no record is written, where the file `claim` is gone: another process runs it now. With `shared` it may take
    what an earlier run has computed, and its record says so.
    """
    path = store.record_path(results, config.dataset, identity)
    if store.is_completed(path) and not save_model:
        return path
    started, instead_of = time.time(), dict(instead_of or {})
    executed = results / "executed" / data_name(config.dataset) / f"{identity}.ipynb"
    parameters = asked.model_dump() | {
        "results": str(results),
        "save_model": save_model and str(save_model),
        "plan": {
            "id": identity,
            "device": config.device,
            "precision": config.precision,
            "asked": instead_of,
            "claim": claim and str(claim),
            "shared": shared,
        },
    }
    try:
        reason = execute(notebook_path(name), parameters, executed)
    except OSError as error:  # such as where the executed notebook cannot be written
        reason = f"{error.filename or 'the notebook was not executed'}: {error.strerror or error}"
    if store.is_completed(path):
        if save_model and reason:
            raise RunFailed(f"The run is done, but its model was not kept: {reason}", path)
        return path
    reason = reason or "the notebook ended without writing its record"
    changed = store.changed(asked, config) | instead_of
    require_claim(claim)
    raise RunFailed(reason, store.failed(results, identity, config, changed, reason, started))


def execute(notebook: Path, parameters: Mapping[str, Any], output: Path) -> str | None:
    """Run a notebook in a kernel that works in the current folder; returns None, or in one line why it failed.

    The executed notebook is kept at `output`. SIGTERM is handed on to the kernel, which may write a checkpoint first.
    """
    import papermill

    output.parent.mkdir(parents=True, exist_ok=True)
    # papermill formats both with the parameters
    source, target = (str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, output))
    with _private_jupyter() as folder, _handing_on_signals(), open(os.devnull, "w") as null:
        try:
            with redirect_stdout(null), redirect_stderr(null):
                papermill.execute_notebook(
                    source,
                    target,
                    dict(parameters),
                    kernel_name="python3",
                    language="python",
                    progress_bar=False,
                    start_timeout=600,  # seconds: from a busy network file system, imports take minutes
                    cwd=os.getcwd(),
                    config=_connection(folder),
                    extra_arguments=["--InteractiveShellApp.ignore_cwd=True"],  # a datasets.py there is no library
                    request_save_on_cell_execute=False,  # the whole is written at the end, failed or not
                    shutdown_kernel="immediate",
                )
        except papermill.PapermillExecutionError as error:
            return explain(error.ename, error.evalue)
        except RuntimeError as error:  # the kernel did not start, or died: killed, or out of memory
            return f"{KERNEL_ENDED}: {error}"
    return None


def summarise(results: Path, metric: str | None, path: Path) -> str | None:
    """Execute a summary notebook on a folder of records, ranked by the metric; returns what `execute` does."""
    parameters = {"results": str(results), "metric": metric}
    known = {name: parameters[name] for name in parameters_of(path) if name in parameters}
    output, began = results / "executed" / path.name, time.time()
    reason = execute(path, known, output)
    if output.is_file():
        os.utime(output, (began, began))  # so that a record which was written meanwhile is newer
    return reason


def refresh(path: Path) -> None:
    """Execute a notebook in place, in its folder; a summary of the same records gives the same bytes.

    Menus are not kept: they do nothing without their kernel. `InputError` if a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    with _private_jupyter() as folder:
        place = {"metadata": {"path": str(path.parent)}}
        # When the kernel flushes is chance; without times, and with what it printed as one piece, nothing else is.
        options = {"record_timing": False, "coalesce_streams": True, "kernel_name": "python3", "resources": place}
        try:
            NotebookClient(notebook, config=_connection(folder), **options).execute()
        except CellExecutionError as error:
            raise InputError(f"{path.name}: {explain(error.ename, error.evalue)}") from None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if WIDGET not in each.get("data", {})]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)  # of Python, which differs between machines
    write_text(path, nbformat.writes(notebook) + "\n")


def explain(name: str, value: str) -> str:
    """In one line why a notebook ended, by the name and the words of its error."""
    value = " ".join(value.split())
    if name.endswith("MemoryError") or any(words in value for words in _MEMORY_WORDS):
        return f"{OUT_OF_MEMORY}: {value or name}"
    ours = {each.__name__ for each in (InputError, *InputError.__subclasses__())}
    return value if name in ours else f"{name}: {value}"


def _connection(folder: str) -> Any:
    """How the kernel is reached: by sockets that only the user's own processes can open, and by our client."""
    from traitlets.config import Config

    client = "lrtl_utils.runs.client.Client"
    return Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel", "client_factory": client}})


@contextmanager
def _private_jupyter() -> Iterator[str]:
    """Connection files and IPython's history in a short-lived folder: socket paths must be short, histories lock.

    The kernel is this environment's, and not one of the same name that another has left in the home folder.
    """
    with tempfile.TemporaryDirectory(prefix="lrtl-", ignore_cleanup_errors=True) as folder:
        ours = dict.fromkeys(("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"), folder) | {"JUPYTER_PREFER_ENV_PATH": "1"}
        before = {name: os.environ.get(name) for name in ours}
        os.environ |= ours
        try:
            yield folder
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _handing_on_signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C go on to the kernel as SIGTERM, which ends it or lets it write its checkpoint first.

    Then `KeyboardInterrupt` is raised. A kernel that does not end in time is killed.
    """
    import psutil

    received: list[threading.Timer] = []

    def each(act: Callable[[psutil.Process], None], kernels: list[psutil.Process]) -> None:
        for kernel in kernels:
            with suppress(psutil.NoSuchProcess):  # it has just ended
                act(kernel)

    def hand_on(_number: int, _frame: Any) -> None:
        kernels = psutil.Process().children(recursive=True)
        each(psutil.Process.terminate, kernels)
        received.append(threading.Timer(TERMINATION_SECONDS, each, (psutil.Process.kill, kernels)))
        received[-1].start()

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for timer in received:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            raise KeyboardInterrupt

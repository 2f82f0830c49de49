"""Notebooks hold story and calls, no logic, and their parameters are RunConfig's."""

import ast
import os
import signal
import subprocess

import nbformat
import psutil
import pytest
import task_notebooks
import torch
from jupyter_client.kernelspec import KernelSpecManager

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load as tasks
from lrtl_utils.errors import InputError
from lrtl_utils.runs import notebook
from lrtl_utils.runs import run as methods
from lrtl_utils.runs.notebook import FOLDER, notebook_path, parameters_of, read_parameters, summary_notebooks

PATHS = sorted(FOLDER.glob("*.ipynb"))
TASK_PATHS = [path for path in PATHS if path.name[0] in "01"]
SUMMARY_PATHS = summary_notebooks()


def cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_all_notebooks_are_there():
    assert [path.stem for path in PATHS] == [
        "00_quickstart",
        "10_text_classification",
        "11_sentiment_analysis",
        "12_image_classification",
        "13_named_entity_recognition",
        "20_accuracy_vs_data",
        "21_accuracy_vs_cost",
        "22_hyperparameters",
        "23_method_comparison",
        "24_one_epoch",
    ]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_cells_hold_calls_and_no_logic(path):
    for cell in cells(path):
        assert "parameters" in cell.metadata.get("tags", []) or cell.source.count("\n") < 24
        logic = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.Try)
        assert not any(isinstance(node, logic) for node in ast.walk(ast.parse(cell.source))), cell.source


@pytest.mark.parametrize("path", TASK_PATHS, ids=lambda path: path.stem)
def test_task_notebooks_are_what_the_template_makes(path):
    """`python tests/support/task_notebooks.py` writes them anew."""
    assert task_notebooks.sources(nbformat.read(path, as_version=4)) == task_notebooks.sources(
        task_notebooks.notebook(path.stem)
    )


def test_the_template_has_every_knob_once():
    knobs = [knob for group in task_notebooks.GROUPS.values() for knob in group]
    to_do = "GROUPS in tests/support/task_notebooks.py must have it; that script then writes the notebooks anew"
    assert sorted(knobs) == sorted(RunConfig.model_fields), to_do


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seed: int = 7", None),
        ("seed = 3 * 2", r"but one is `seed = 3 \* 2`"),
        ("seed: int", "but one is `seed: int`"),
        ("seed, other = 0, 1", r"but one is `seed, other = \(?0, 1\)?`"),
        ("seed =", "invalid syntax"),
        ("seed = {[]}", r"but one is `seed = \{\[\]\}`"),
        ("if True:\n    seed = 1", "but one is `if True:`"),
    ],
)
def test_a_parameter_cell_that_was_edited_is_read_or_refused_in_a_sentence(line, said, tmp_path):
    cell = nbformat.v4.new_code_cell(f"dataset = 'digits'\n{line}", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path := tmp_path / "own.ipynb")
    if said is None:
        assert parameters_of(path) == {"dataset": "digits", "seed": 7}
    else:
        with pytest.raises(InputError, match=f"The parameter cell of .*own.ipynb cannot be read: .*{said}") as refused:
            parameters_of(path)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", TASK_PATHS, ids=lambda path: path.stem)
def test_six_knobs_are_seen_before_those_that_may_stay_as_they_are(path):
    first, _ = cells(path)[0].source.split("# Everything below may stay as it is.")
    assert len(ast.parse(first).body) == 6


def test_the_quickstart_shows_no_parameter_without_a_value():
    (shown,) = (cell.outputs[0] for cell in cells(TASK_PATHS[0]) if "run.settings" in cell.source)
    used = dict(line.split()[::2] for line in shown.data["text/plain"].splitlines()[1:])
    assert {"dataset", "learning_rate"} <= used.keys()
    assert "–" not in used.values()


@pytest.mark.parametrize("path", TASK_PATHS, ids=lambda path: path.stem)
def test_defaults_are_small_and_shipped(path):
    asked = RunConfig.of(parameters_of(path))
    methods.check(asked)
    assert tasks.TASKS[asked.dataset].package is not None


@pytest.mark.parametrize("path", TASK_PATHS[1:], ids=lambda path: path.stem)
def test_task_notebooks_carry_no_outputs(path):
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(path))


@pytest.mark.parametrize("path", [TASK_PATHS[0], *SUMMARY_PATHS], ids=lambda path: path.stem)
def test_the_quickstart_and_the_summaries_carry_their_outputs_and_no_place(path):
    assert all(cell.execution_count for cell in cells(path))
    pictures = sum("image/png" in output.get("data", {}) for cell in cells(path) for output in cell.outputs)
    assert pictures or not any("figures." in cell.source for cell in cells(path))
    assert "papermill" not in nbformat.read(path, as_version=4).metadata
    assert not any(place in path.read_text() for place in ("/home/", "/Users/"))
    assert str(FOLDER.parent) not in path.read_text()


@pytest.mark.parametrize("path", SUMMARY_PATHS, ids=lambda path: path.stem)
def test_summaries_read_committed_results(path):
    results = parameters_of(path)["results"]
    folders = [results] if isinstance(results, str) else results
    assert all((path.parent / folder / "runs").is_dir() for folder in folders)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("text_classification", {"metod": "full"}, "did you mean 'method'"),
        ("text_classification", {"method": "ful"}, "did you mean 'full'"),
        ("text_classification", {"dataset": "agnews"}, "did you mean 'ag_news'"),
        ("text_classification", {"dataset": "digits", "model": "efficientnet_lite0"}, "is for text"),
        ("text_classification", {"dataset": "digits"}, "use image_classification"),  # not: another model
        ("accuracy_vs_data", {}, "only reads records"),
    ],
)
def test_a_wrong_call_is_one_sentence(name, given, said):
    with pytest.raises(InputError) as error:
        read_parameters(name, given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_values_are_typed_by_run_config():
    asked = read_parameters("sentiment_analysis", {"learning_rate": "5e-5", "epochs": "3", "train_size": "none"})
    assert (asked.learning_rate, asked.epochs, asked.train_size) == (5e-5, 3, None)
    assert asked.dataset == parameters_of(notebook_path("sentiment_analysis"))["dataset"]


def test_a_signal_reaches_the_kernels_that_are_left_if_one_has_just_ended(monkeypatch):
    ended, left = (subprocess.Popen([name, "60"]) for name in ("true", "sleep"))
    both = [psutil.Process(process.pid) for process in (ended, left)]
    ended.wait()
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: both)
    with pytest.raises(KeyboardInterrupt), notebook._handing_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert left.wait(10) == -signal.SIGTERM


def test_what_a_user_can_mend_is_said_without_the_name_of_a_class():
    assert notebook.explain("Absent", "ag_news is not here") == "ag_news is not here"


def test_the_kernel_is_this_environment_s_whatever_is_in_the_home_folder(tmp_path, monkeypatch):
    other = tmp_path / "kernels/python3/kernel.json"
    other.parent.mkdir(parents=True)
    other.write_text('{"argv": ["/other/bin/python"], "display_name": "Other", "language": "python"}')
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == "/other/bin/python"
    with notebook._private_jupyter():
        assert KernelSpecManager().get_kernel_spec("python3").argv[0] != "/other/bin/python"


@pytest.mark.parametrize("name", ["InputError", "ValueError", "MemoryError"])
def test_the_reason_of_a_failure_is_one_line(name):
    assert notebook.explain(name, "the first\n\n  and the second line\n").endswith("the first and the second line")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AcceleratorError", "CUDA error: out of memory"),
        ("_ArrayMemoryError", "Unable to allocate 8.00 GiB for an array"),
        ("OutOfMemoryError", ""),
    ],
)
def test_out_of_memory_is_said_first_whoever_ran_out_of_it(name, value):
    assert notebook.explain(name, value) == f"out of memory: {value or name}"


def test_out_of_memory_is_what_torch_says_where_it_cannot_allocate():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50)
    assert notebook.explain(type(error.value).__name__, str(error.value)).startswith("out of memory: ")

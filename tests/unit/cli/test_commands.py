"""The command line within this process: help, wrong calls, missing extras."""

import errno
import os
import sys
import tempfile
import warnings
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from lrtl_utils import cli
from lrtl_utils.cli import common, sweep
from lrtl_utils.config import RunConfig
from lrtl_utils.data import hub
from lrtl_utils.files import notebooks_folder

SLURM = ["sweep", "demo", "--engine", "slurm", "--slurm", "memory=1GB", "--slurm", "cores=2"]


def verbs():
    return typer.main.get_command(cli.app).commands


def test_a_warning_is_shown_once_however_often_it_comes(call, monkeypatch):
    def warn(**_options):
        for said in ("first", "second", "first"):
            with warnings.catch_warnings():  # after this, Python has forgotten which warnings it has shown
                pass
            warnings.warn(said, stacklevel=1)
        raise SystemExit(0)

    monkeypatch.setattr(cli, "app", warn)
    assert call() == (0, "", "warning: first\nwarning: second\n")


@pytest.mark.parametrize(("file", "said"), [("a.json", "a.json: "), (None, "The system reports: ")])
def test_an_error_of_the_system_is_one_sentence(call, monkeypatch, file, said):
    def fail(**_options):
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr(cli, "app", fail)
    assert call() == (1, "", f"{said}No space left on device.\n")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory.\nTried to allocate 20 MiB.")])
def test_too_little_memory_is_one_line(call, monkeypatch, error):
    def fail(**_options):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    status, out, said = call()
    assert (status, out, len(said.splitlines())) == (1, "", 1)
    assert said.startswith("out of memory: ")


def test_sigterm_while_an_estimate_is_timed_is_one_line(call, monkeypatch):
    class Interrupted(RuntimeError):
        """As that of the loop, which imports torch."""

    def fail(**_options):
        raise Interrupted("interrupted after 0 epochs, 1 batches; the same command goes on from there")

    monkeypatch.setitem(sys.modules, "lrtl_utils.methods.loop", SimpleNamespace(Interrupted=Interrupted))
    monkeypatch.setattr(cli, "app", fail)
    assert call() == (143, "", "Interrupted.\n")


def test_another_error_keeps_its_traceback(monkeypatch):
    def fail(**_options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_sockets_lie_in_a_folder_whose_path_is_short_enough(call, monkeypatch, tmp_path):
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(cli, "app", lambda **_options: sys.exit(f"{tempfile.gettempdir()} {os.environ['TMPDIR']}"))
    assert call()[0] == "/tmp /tmp"


def test_help_names_every_verb_but_the_hidden_one():
    text = CliRunner().invoke(cli.app, ["--help"]).stdout
    assert "Fine-tune pre-trained models" in text
    assert [name for name in verbs() if f" {name} " not in text] == ["work"]


def test_the_help_of_run_lists_every_parameter():
    text = CliRunner().invoke(cli.app, ["run", "--help"]).stdout
    assert [name for name in RunConfig.model_fields if f" {name}: " not in text] == []


@pytest.mark.parametrize("verb", verbs())
def test_every_option_of_a_verb_is_explained(verb):
    command = verbs()[verb]
    assert command.help[0].isupper()
    if not command.hidden:
        assert [option.name for option in command.params if not option.help] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "text_clasification"], "did you mean 'text_classification'?"),
        (["run", "text_classification", "-p", "method"], "-p method has no '='; write -p name=value."),
        (["run", "text_classification", "-p", "seed=1", "-p", "seed=2"], "-p seed is given twice, as 1 and as 2."),
        (
            ["run", "sentiment_analysis", "-p", "save_model=a", "--save-model", "b"],
            "The folder of the model is given twice",
        ),
        (["sweep", "no_such_grid.yaml"], "no_such_grid.yaml cannot be read"),
        (["sweep", "dem"], "There is no grid named 'dem'; did you mean 'demo'?"),
        (["doctor", "https://example.com/a.csv"], "https://example.com/a.csv is an address; download the file"),
        (["sweep", "demo", "--slurm", "cores=2"], "--slurm goes with --engine slurm"),
        (["sweep", "demo", "--slurm", "cores"], "--slurm cores has no '='"),
        (["sweep", "demo", "--engine", "slurm", "--slurm", "cores=2"], "needs --slurm memory="),
        ([*SLURM, "--slurm", "cores=four"], "--slurm cores=four must be a whole number"),
        ([*SLURM, "--slurm", "processes=2"], "--slurm processes=… is not possible"),
        ([*SLURM, "--results", "My Project"], "My Project contains ' ', which the job's script cannot hold"),
        (["sweep", "demo", "--price-per-hour", "2.5"], "--price-per-hour goes with --dry-run."),
        (["search", "demo", "--fidelity", "epochs"], "--fidelity goes with"),
        (["search", "demo", "--replay", "5", "--trials", "9"], "--replay runs nothing"),
        (["search", "demo", "--replay", "5", "--workers", "2"], "--replay runs nothing"),
        (["verify", "no/such/folder"], "There is no folder"),
        (["compare", "news_sample", "--metric", "macrof1"], "did you mean 'macro_f1'?"),
        (["export", "my/model"], "Say what to export"),
        (["export", "my/model", "my/data.csv", "--onnx"], "my/data.csv must end in .onnx"),
        (["export", "my/results", "runs.parquet", "--to", "csv"], "runs.parquet must end in .csv"),
        (["export", "my/results", "--to", "csv", "--int8"], "--int8 and --rows go with --onnx."),
        (["export", "my/results", "--to", "csv", "--uri", "http://localhost"], "--uri goes with --to mlflow."),
        (["export", "no/results", "--to", "csv"], "There are no records in"),
        (["push", "no/model", "org/name", "--license", "mit"], "is not a model that `lrtl run --save-model` saved"),
        (["doctor", "new_sample"], "did you mean 'news_sample'?"),
        (["doctor", "news_sample", "--mirror"], "--mirror goes without a data set"),
        (["doctor", "--labels"], "go with a data set; name one."),
        (["doctor", "--mirror", "--text-column", "text"], "go with a data set; name one."),
    ],
)
def test_a_wrong_call_is_one_sentence_on_stderr(call, words, sentence):
    status, out, error = call(*words)
    assert (status, out) == (2, "")
    assert sentence in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["search", "demo"], "search"),
        (["export", "my/model", "--onnx"], "onnx"),
        (["export", "my/results", "--to", "mlflow"], "mlflow"),
        (["export", "my/results", "--to", "trackio"], "trackio"),
        (["sweep", "demo", "--engine", "dask"], "cluster"),
        (["sweep", "demo", "--engine", "slurm", "--slurm", "cores=2", "--slurm", "memory=1GB"], "cluster"),
    ],
)
def test_a_missing_extra_is_named(call, monkeypatch, words, extra):
    monkeypatch.setattr(common, "find_spec", lambda name: None)
    status, out, error = call(*words)
    assert (status, out) == (2, "")
    assert error.endswith(f"install it with `pip install '.[{extra}]'`.\n")


def test_what_could_not_be_fetched_is_said_with_one_full_stop_each(call, monkeypatch, tmp_path):
    failures = ["a: it has no b.", "c: [Errno 28] No space left on device"]
    monkeypatch.setattr(hub, "fetch", lambda *_: failures)
    status, _, error = call("fetch", "--to", tmp_path)
    said = "a: it has no b; c: [Errno 28] No space left on device. Run the same command again to continue.\n"
    assert (status, error) == (1, said)


def test_no_names_are_not_all_of_them(call, monkeypatch, tmp_path):
    wanted = []
    monkeypatch.setattr(hub, "fetch", lambda found, *_: wanted.append([*found]) or [])
    for words in (["--datasets", ""], ["--models", ","], []):
        assert call("fetch", "--to", tmp_path, *words)[0] == 0
    assert (wanted[0], wanted[1]) == ([], [])
    assert len(wanted[2]) > 10


def test_a_grid_is_a_file_or_the_name_of_one_that_is_shipped(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # of results, say
    assert sweep.shipped(sweep.Path("demo")) == notebooks_folder() / "grids" / "demo.yaml"
    (tmp_path / "demo").rmdir()
    (tmp_path / "demo").touch()
    for own in ("demo", "demo.yaml", "grids/demo"):
        assert sweep.shipped(sweep.Path(own)) == sweep.Path(own)


def test_slurm_parameters_that_take_a_list_are_collected():
    given = ["cores=4", "job_extra_directives=--gres=gpu:1", "job_extra_directives=--exclusive", "cores=8"]
    expected = {"cores": "8", "job_extra_directives": ["--gres=gpu:1", "--exclusive"]}
    assert sweep.slurm_parameters(given) == expected
    assert sweep.slurm_parameters(["job_extra=--exclusive"]) == {"job_extra": ["--exclusive"]}  # the earlier name


def test_what_is_shown_cannot_steer_a_terminal(capsys):
    joined = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u2764\u200d\U0001f525"  # Persian, and an emoji
    common.show(["\x1b[31mred\u202e", joined])
    assert capsys.readouterr().out == f"\\x1b[31mred\\u202e\n{joined}\n"

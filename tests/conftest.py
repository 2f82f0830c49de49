"""What tests share. Nothing here or in them needs a network; set before torch and the hub's client are imported."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = "/nowhere"  # what a user has fetched is no part of a test
os.environ.setdefault("LRTL_MIRROR", "/nowhere")
os.environ["OMP_NUM_THREADS"] = "1"  # a test's own processes inherit it; many threads on few cores are slow
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Tests that run side by side have a core each: a sweep divides what it may use, and takes no other's.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(cores)]})

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Done(NamedTuple):
    """What a command gave."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the command line as `lrtl WORDS` in this process."""

    def run(*words: object) -> Done:
        from lrtl_utils import cli

        monkeypatch.setattr("sys.argv", ["lrtl", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return Done(exit_.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of tiny checkpoints and invented data under the hub's names."""
    from checkpoints import write_mirror

    folder = tmp_path_factory.mktemp("mirror")
    write_mirror(folder)
    return folder


@pytest.fixture(scope="module")
def mirror(mirrored: Path) -> Iterator[Path]:
    """That mirror; `LRTL_MIRROR` is set to it for the module's tests, and for no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRTL_MIRROR", str(mirrored))
        yield mirrored


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two data sets, six methods, four sizes and three seeds, with outcomes that were chosen, not run."""
    from synthetic import write_study

    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return folder


@pytest.fixture(scope="module")
def frame(study: Path) -> Any:
    """The table of those records."""
    from lrtl_utils.study import tables

    return tables.read(study)

import tempfile
from pathlib import Path

import pytest

from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path, notebooks_folder, writable_folder, writing_to


def test_relative_paths_start_at_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute_path("results/local") == tmp_path / "results" / "local"
    assert absolute_path("../x") == tmp_path.parent / "x"
    assert absolute_path("~/x") == Path.home() / "x"
    assert absolute_path(tmp_path) == tmp_path


def test_notebooks_and_grids_are_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert (notebooks_folder() / "00_quickstart.ipynb").is_file()
    assert (notebooks_folder() / "grids" / "demo.yaml").is_file()


def test_an_error_of_the_system_without_a_number_keeps_its_words(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError("the writer gave up")

    with pytest.raises(InputError, match=r"x\.csv cannot be written: the writer gave up\."), writing_to(Path("x.csv")):
        fail()
    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(InputError, match=r"No file can be written in the folder .*: the writer gave up\."):
        writable_folder(tmp_path)

import os
import tempfile
from pathlib import Path

import pytest

from lrtl_utils.errors import InputError
from lrtl_utils.files import (
    absolute_path,
    existing_folder,
    first_line,
    notebooks_folder,
    writable_folder,
    write_text,
    writing_to,
)


def test_relative_paths_start_at_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute_path("results/local") == tmp_path / "results" / "local"
    assert absolute_path("../x") == tmp_path.parent / "x"
    assert absolute_path("~/x") == Path.home() / "x"
    assert absolute_path(tmp_path) == tmp_path


def test_a_folder_whose_name_is_too_long_or_not_utf8_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"There is no folder .*a{300}"):
        existing_folder(tmp_path / (300 * "a"))
    with pytest.raises(InputError, match=r"\\xff' has a name that is not UTF-8; name another folder"):
        writable_folder(tmp_path / os.fsdecode(b"\xff"))


def test_a_file_may_have_the_longest_name_and_its_first_line_may_have_no_end(tmp_path):
    path = tmp_path / (255 * "a")
    write_text(path, "a" * 2**17)
    assert len(first_line(path)) == 2**16


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

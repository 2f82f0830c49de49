from pathlib import Path

from lrtl_utils.files import absolute_path, notebooks_folder


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

"""A worker renews the claim of its cell, gives up a cell that it has lost, and starts cells with its share."""

import importlib
import multiprocessing
import os
import shutil

import nbformat
import psutil
from complete import wait_for
from grid_files import written

from lrtl_utils.runs import notebook, store
from lrtl_utils.sweep import claims, kernels
from lrtl_utils.sweep.grid import plan, read_grid
from lrtl_utils.sweep.workers import END, FORK, Plan, Slot, _Worker, ask_to_stop

for module in kernels.IMPORTED:  # once, and not in each process
    importlib.import_module(module)
TINY = {"dataset": "news_sample", "method": "from_scratch", "model": "simple_nn", "device": "cpu", "test_limit": 20}
TINY |= {"train_size": 16, "batch_size": 4, "max_length": 16}


def test_a_worker_renews_its_claim_and_ends_a_cell_whose_claim_it_has_lost(tmp_path, monkeypatch):
    """It then claims the cell anew, as any worker may: here the thief is gone at once."""
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0)
    (cell,) = plan(read_grid(written(tmp_path, TINY | {"epochs": 10**6})))
    owner, _other_end = multiprocessing.Pipe()
    file, asked = tmp_path / "plan.json", Plan(tmp_path, (cell,), {})
    worker = FORK.Process(target=_Worker(file, asked, Slot(1), owner).work)
    worker.start()
    try:
        wait_for(lambda: list(tmp_path.glob("work/*/progress.json")))
        (held,) = claims.held(tmp_path)
        path = claims.path_of(tmp_path, held)
        os.utime(path, (0, 0))
        wait_for(lambda: path.stat().st_mtime > 0, seconds=30)
        for process in psutil.Process(worker.pid).children(recursive=True):
            process.suspend()  # else the cell would notice itself, and end
        path.rename(path.with_suffix(".free"))
        wait_for(lambda: [claim.generation for claim in claims.held(tmp_path)] == [2], seconds=30)
    finally:
        ask_to_stop(file, END)
        worker.join()
    assert worker.exitcode == 0


def test_a_cell_sees_the_gpu_of_its_slot_alone(tmp_path, monkeypatch):
    """A cell that computes on the CPU shows it too, on a machine without a GPU."""
    shutil.copytree(notebook.FOLDER, tmp_path / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    monkeypatch.setattr(notebook, "FOLDER", tmp_path / "notebooks")
    (cell,) = plan(read_grid(written(tmp_path, TINY | {"method": "tfidf"})))
    path = notebook.notebook_path(cell.notebook)
    book = nbformat.read(path, as_version=4)
    seen = 'import os\nassert os.environ["CUDA_VISIBLE_DEVICES"] == "7"'
    book.cells.insert(len(book.cells) // 2, nbformat.v4.new_code_cell(seen))
    nbformat.write(book, path)
    owner, _other_end = multiprocessing.Pipe()
    worker = _Worker(tmp_path / "plan.json", Plan(tmp_path, (cell,), {}), Slot(1, gpu="7"), owner)
    assert worker.claim_and_run(cell, cell)
    assert store.read(cell.path(tmp_path))["error"] is None


def test_a_cell_that_dies_outside_its_notebook_says_where_its_output_is(tmp_path, monkeypatch):
    def die(*_args, **_options):
        os.write(2, b"no kernel here")  # pytest has replaced sys.stderr
        os._exit(1)

    monkeypatch.setattr(notebook, "run_notebook", die)
    (cell,) = plan(read_grid(written(tmp_path, TINY | {"method": "tfidf"})))
    owner, _other_end = multiprocessing.Pipe()
    worker = _Worker(tmp_path / "plan.json", Plan(tmp_path, (cell,), {}), Slot(1), owner)
    assert worker.claim_and_run(cell, cell)
    log = f"work/{cell.id}/log.txt"
    assert store.read(cell.path(tmp_path))["error"] == f"its process died with status 1; its output is in {log}"
    assert "no kernel here" in (tmp_path / log).read_text()

"""A claim is had by one at a time, whoever races for it, dies with it, or has a wrong clock."""

import json
import multiprocessing
import os
import subprocess
import sys

import pytest
from claim_files import write

from lrtl_utils.sweep import claims


def test_a_claim_whose_process_is_gone_is_free_at_once(tmp_path):
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    write(tmp_path, process=int(child.stdout))
    taken = claims.take(tmp_path, "cell", "words")
    assert taken.generation == 2


def race(results, together, cells, wins):
    together.wait()
    for cell in cells:
        if claims.take(results, cell, "words"):
            wins.put(cell)
    together.wait()  # a claim of a process that has ended is free


@pytest.mark.parametrize("dead_before", [False, True])
def test_eight_who_race_for_the_same_cells_get_each_once(tmp_path, dead_before):
    cells = [f"cell{i}" for i in range(25)]
    if dead_before:
        for cell in cells:
            claim = claims.take(tmp_path, cell, "words")
            path = tmp_path / "claims" / f"{cell}.{claim.generation}.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "elsewhere"}))
            os.utime(path, (0, 0))
    context = multiprocessing.get_context("fork")
    together, wins = context.Barrier(8), context.Queue()
    racers = [context.Process(target=race, args=(tmp_path, together, cells, wins)) for _ in range(8)]
    for racer in racers:
        racer.start()
    won = sorted(wins.get(timeout=30) for _ in cells)
    for racer in racers:
        racer.join()
    assert won == sorted(cells)
    assert wins.empty()

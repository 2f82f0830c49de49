"""`lrtl suggest`, as a command."""

import csv

import pytest
from own_files import rows, write_csv


@pytest.fixture
def mine(tmp_path):
    return str(write_csv(tmp_path / "mine.csv", rows(60)))


@pytest.fixture
def pool(tmp_path):
    """Reviews like the labelled ones."""
    return write_csv(tmp_path / "pool.csv", [(text,) for text, _ in rows(12, 100)], ("text",))


def test_the_command_writes_beside_the_pool_and_prints_the_path_last(mine, pool, call):
    words = ["suggest", mine, "--unlabelled", pool, "-n", 3]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-1] == str(pool.with_name("pool.suggested.csv"))
    assert "Drawn at random: 3 rows. Fill in the column 'label'." in said
    with open(said[-1], newline="") as stream:
        assert len([*csv.reader(stream)]) == 4
    again = call(*words)
    assert (again.returncode, again.stdout) == (2, "")
    assert "may hold labels that you filled in; name another file with --output" in again.stderr


def test_the_command_writes_a_conll_file_for_sentences(tmp_path, call):
    pool = tmp_path / "pool.txt"
    pool.write_text("Ada went to Oslo .\nNobody came .\n")
    done = call("suggest", "entities_sample", "--unlabelled", pool)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "pool.suggested.conll"
    assert done.stdout.splitlines()[-2:] == [
        "Drawn at random: 2 sentences. In column 2, replace each '_' by the tag of the word.",
        str(path),
    ]
    named = call("suggest", "entities_sample", "--unlabelled", pool, "--output", tmp_path / "next.csv")
    assert "next.csv: tagged sentences are no table; give a name that ends in .conll." in named.stderr
    first, second = sorted(path.read_text().rstrip().split("\n\n"))
    assert (first, second) == ("Ada\t_\nwent\t_\nto\t_\nOslo\t_\n.\t_", "Nobody\t_\ncame\t_\n.\t_")


def test_the_command_takes_the_columns_and_the_file_that_are_named(tmp_path, call):
    known = [(f"note {i}", *row) for i, row in enumerate(rows(60))]
    mine = write_csv(tmp_path / "mine.csv", known, ("text", "body", "stars"))
    asked = [(f"note {i}", text) for i, (text, _) in enumerate(rows(12, 100), 100)]
    pool = write_csv(tmp_path / "pool.csv", asked, ("text", "body"))
    words = ["suggest", mine, "--unlabelled", pool, "-n", 3]
    words += ["--text-column", "body", "--label-column", "stars", "--output", tmp_path / "out.csv"]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out.csv")
    assert "Drawn at random: 3 rows. Fill in the column 'stars'." in done.stdout

"""A user's own files, written for tests."""

import csv

OPINIONS = {"good": "a fine and moving film number", "bad": "a dull and clumsy film number"}


def rows(count, start=0, opinions=OPINIONS):
    """So many different reviews, the labels in turn."""
    labels = list(opinions)
    return [(f"{opinions[labels[i % len(labels)]]} {i}", labels[i % len(labels)]) for i in range(start, start + count)]


def write_csv(path, lines, header=("text", "label"), encoding="utf-8", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream, **options).writerows([header, *lines])
    return path


def of_one(count, label, start=0):
    """So many different reviews of one label."""
    return rows(count, start, {label: f"{label} words of review number"})


def written_csv(path, lines):
    """The path, as a person would give it, of a CSV file with these lines."""
    return str(write_csv(path, lines))


def leaky(folder):
    """Ten train reviews of which three are in the test split too, one twice, one in other letters."""
    write_csv(folder / "train.csv", [*rows(10), rows(1)[0], ("A Dull  and clumsy film number 101", "bad")])
    write_csv(folder / "test.csv", [*rows(2), *rows(8, 100)])
    return str(folder)

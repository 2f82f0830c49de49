"""The four answers, from what the summary notebooks read: in short in README, in full beside the records."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from lrtl_utils.errors import InputError
from lrtl_utils.files import read_text, write_text
from lrtl_utils.runs import store
from lrtl_utils.study import answers, figures, tables
from lrtl_utils.study.benchmarks import bench
from lrtl_utils.study.report import SECTIONS, committed_sources

BEGIN = "<!-- the four answers: `make figures` writes them -->"
END = "<!-- end of the four answers -->"
WIDE = "wide"  # the tuning of `conventional` that the picture is about
MOST_BYTES = 1_000_000


def refresh(path: Path, folder: Path) -> Path:
    """Write the answers in short between the marks of the file at `path`, and in full beside the records.

    `folder` holds the notebooks, which name the records: those of the study, then those of the benchmark, whose picture
    is drawn too. Returns `path`; `InputError` if it lacks the marks.
    """
    before, begin, rest = read_text(path, MOST_BYTES).partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise InputError(f"{path} must have a line {BEGIN} and, below it, a line {END}; the answers go between them.")
    study, *others = committed_sources(folder)
    frame = tables.read([study, *others])
    found = [ask(frame) for ask, *_ in SECTIONS]
    settings = bench.by_setting(others[0]) if others else []
    short = "\n".join(in_short(found, frame, study, path.parent, settings))
    write_text(path, f"{before}{begin}\n\n{short}\n{end}{after}")
    write_text(study / "README.md", "\n".join(in_full(found, frame, study, folder)))
    if others:
        figures.style()
        figures.save(figures.headline(bench.gains(settings, WIDE), bench.AGAINST[WIDE]), others[0], "headline")
    return path


def in_short(
    found: Sequence[answers.Answer], frame: pd.DataFrame, results: Path, root: Path, settings: Sequence[bench.Setting]
) -> Iterator[str]:
    """The table of the benchmark's settings, and each question with the sentence that answers it."""
    yield from (f"{sentence}\n" for sentence in store.outdated(frame["record"]))
    if settings:
        yield against_tuned(settings).to_markdown(index=False, disable_numparse=True) + "\n"
    yield from (f"- **{answer.question}** {answer.headline}" for answer in found)
    yield f"\n[Every answer, with its picture]({os.path.relpath(results / 'README.md', root)})\n"


def against_tuned(settings: Sequence[bench.Setting]) -> pd.DataFrame:
    """`progressive` beside its two tuned baselines, in each setting of the benchmark."""
    table = None
    for tuning in (WIDE, "full"):
        found, name = bench.gains(settings, tuning), bench.AGAINST[tuning]
        shown = pd.DataFrame(
            {
                "data set, model": found["dataset_model"].map(tables.titled),
                "labels": found["n_labels"],
                f"`{tables.OURS}`": [
                    f"{row.score:.3f}{answers.between(row.score_low, row.score_high)}" for row in found.itertuples()
                ],
                f"points over {name}": [
                    f"{answers.points(row.mean, row.low, row.high)}, {row.verdict}" for row in found.itertuples()
                ],
                f"FLOPs / {name}": found["flops_ratio"].map("{:.0%}".format),
            }
        )
        table = shown if table is None else table.merge(shown, on=list(table.columns[:3]))
    return table


def in_full(found: Sequence[answers.Answer], frame: pd.DataFrame, results: Path, folder: Path) -> Iterator[str]:
    """Each question with its answer, a sentence for each data set and model, and the figure with its notebook."""
    yield "# The four answers of this study\n"
    for answer, (_, picture, caption, notebook) in zip(found, SECTIONS, strict=True):
        place = os.path.relpath(folder / f"{notebook}.ipynb", results)
        yield f"## {answer.question}\n\n{answer.headline} ([{notebook}]({place}))\n"
        yield "".join(f"- {one}\n" for one in answer.each)
        if (results / "figures" / f"{picture}.png").is_file():
            yield f"[![{caption.format(score=tables.metrics_of(frame))}](figures/{picture}.png)]({place})\n"
    yield from (f"{sentence}\n" for sentence in store.outdated(frame["record"]))

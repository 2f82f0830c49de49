"""The four answers, from what the summary notebooks read: in short in README, in full beside the records."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from lrtl_utils.errors import InputError
from lrtl_utils.files import read_text, write_text
from lrtl_utils.runs import store
from lrtl_utils.study import answers, tables
from lrtl_utils.study.report import SECTIONS, committed_sources

BEGIN = "<!-- the four answers: `make figures` writes them -->"
END = "<!-- end of the four answers -->"
MOST_BYTES = 1_000_000


def refresh(path: Path, folder: Path) -> Path:
    """Write the answers in short between the marks of the file at `path`, and in full beside the records.

    `folder` holds the notebooks, which name the records. Returns `path`; `InputError` if it lacks the marks.
    """
    before, begin, rest = read_text(path, MOST_BYTES).partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise InputError(f"{path} must have a line {BEGIN} and, below it, a line {END}; the answers go between them.")
    sources = committed_sources(folder)
    frame = tables.read(sources)
    found = [ask(frame) for ask, *_ in SECTIONS]
    short = "\n".join(in_short(found, frame, sources[0], path.parent))
    write_text(path, f"{before}{begin}\n\n{short}\n{end}{after}")
    write_text(sources[0] / "README.md", "\n".join(in_full(found, frame, sources[0], folder)))
    return path


def in_short(found: Sequence[answers.Answer], frame: pd.DataFrame, results: Path, root: Path) -> Iterator[str]:
    """Each question with the sentence that answers it, and a row for each data set and model."""
    yield from (f"- **{answer.question}** {answer.headline}" for answer in found)
    yield f"\n[Every answer, with its picture]({os.path.relpath(results / 'README.md', root)})\n"
    yield from ([against_tuned(frame).to_markdown(index=False, disable_numparse=True), ""] if len(frame) else [])
    yield from (f"{sentence}\n" for sentence in store.outdated(frame["record"]))


def against_tuned(frame: pd.DataFrame) -> pd.DataFrame:
    """`progressive` beside tuned `conventional`, at the size that the first answer is about."""
    rows = [
        {
            "data set, model": tables.titled(row.dataset_model),
            "labels": row.n_labels,
            f"`{tables.OURS}`": f"{row.score:.3f}{answers.between(row.score_low, row.score_high)}",
            "seconds": f"{row.device_seconds:.1f}",
            f"points over tuned `{tables.BASELINE}`": f"{answers.points(row.mean, row.low, row.high)}, {row.verdict}",
            "share of its FLOPs": f"{row.flops_ratio:.0%}",
        }
        for row in tables.gains(frame).itertuples()
    ]
    return pd.DataFrame(rows)


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

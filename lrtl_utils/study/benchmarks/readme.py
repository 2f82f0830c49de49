"""The four answers in README: written between two marks, from the records that the summary notebooks read."""

import os
from collections.abc import Iterator
from pathlib import Path

from lrtl_utils.errors import InputError
from lrtl_utils.files import read_text, write_text
from lrtl_utils.runs import store
from lrtl_utils.study import tables
from lrtl_utils.study.report import SECTIONS, committed_sources

BEGIN = "<!-- the four answers: `make figures` writes them -->"
END = "<!-- end of the four answers -->"
MOST_BYTES = 1_000_000


def refresh(path: Path, folder: Path) -> Path:
    """Write the answers between the marks of the file at `path`, beside the `folder` of notebooks; return `path`.

    `InputError` if it lacks the marks.
    """
    before, begin, rest = read_text(path, MOST_BYTES).partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise InputError(f"{path} must have a line {BEGIN} and, below it, a line {END}; the answers go between them.")
    text = "\n".join(answers(path.parent, folder))
    write_text(path, f"{before}{begin}\n\n{text}\n{end}{after}")
    return path


def answers(root: Path, folder: Path) -> Iterator[str]:
    """Each question with its answer and its figure, which links to the notebook that makes it."""
    sources = committed_sources(folder)
    frame, pictures = tables.read(sources), sources[0] / "figures"
    for ask, picture, caption, notebook in SECTIONS:
        answer = ask(frame)
        place = os.path.relpath(folder / f"{notebook}.ipynb", root)
        yield f"**{answer.question}** {answer.headline} ([{notebook}]({place}))\n"
        yield "".join(f"- {one}\n" for one in answer.each)
        if (file := pictures / f"{picture}.png").is_file():
            yield f"[![{caption}]({os.path.relpath(file, root)})]({place})\n"
    yield from (f"{sentence}\n" for sentence in store.outdated(frame["record"]))

"""The four answers in README: written between two marks, from the records that the summary notebooks read."""

import os
from collections.abc import Iterator
from pathlib import Path

from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path, read_text, write_text
from lrtl_utils.runs import notebook as notebooks
from lrtl_utils.study import tables as summaries
from lrtl_utils.study.report import SECTIONS

BEGIN = "<!-- the four answers: `make figures` writes them -->"
END = "<!-- end of the four answers -->"
MOST_BYTES = 1_000_000


def refresh(path: Path, folder: Path) -> Path:
    """Write the answers between the marks of the file at `path`, which stands beside the `folder` of notebooks.

    Returns `path`. `InputError` where it lacks them.
    """
    before, begin, rest = read_text(path, MOST_BYTES).partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise InputError(f"{path} is to have a line {BEGIN} and, below it, a line {END}: the answers go between.")
    told = "\n".join(answers(path.parent, folder))
    write_text(path, f"{before}{begin}\n\n{told}\n{end}{after}")
    return path


def answers(root: Path, folder: Path) -> Iterator[str]:
    """Each question with what the records say and its picture, one click from the notebook that makes it."""
    named = summaries.folders(notebooks.parameters_of(folder / f"{SECTIONS[0][-1]}.ipynb")["results"])
    sources = [absolute_path(folder / source) for source in named]
    pictures = sources[0] / "figures"
    frame = summaries.read(sources)
    for answer, picture, caption, notebook in SECTIONS:
        finding = answer(frame)
        place = os.path.relpath(folder / f"{notebook}.ipynb", root)
        yield f"**{finding.question}** {finding.headline} ([{notebook}]({place}))\n"
        yield "".join(f"- {one}\n" for one in finding.each)
        if (file := pictures / f"{picture}.png").is_file():
            yield f"[![{caption}]({os.path.relpath(file, root)})]({place})\n"

"""The check of recorded runs."""

import typer

from lrtl_utils.cli.common import LOCAL, Folder, show
from lrtl_utils.files import absolute_path


def verify(results: Folder = LOCAL) -> None:
    """Check every record of a folder: schema, checksum, identity and protocol. Each faulty one is one line."""
    from lrtl_utils.runs import verify as verification

    folder = absolute_path(results)
    report = verification.verify(folder)
    show(report.lines() if report.records else [f"There are no records in {folder / 'runs'}."])
    if report.faults:
        raise typer.Exit(1)

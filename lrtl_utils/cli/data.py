"""What this machine has, the check of a data set, what to label next, downloads, and the check of records."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from lrtl_utils.cli.common import LOCAL, Folder, LabelColumn, TextColumn, fail, interruptible, show
from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path, writable_folder


def doctor(
    dataset: Annotated[
        str | None, Argument(help="A data set to check: your own file or folder, or the name of a data set.")
    ] = None,
    mirror: Annotated[bool, Option("--mirror", help="Check the files of the mirror; needs no network.")] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    labels: Annotated[
        bool | None,
        Option(help="Look for wrong labels with a model. Default: if there are at most 1,000 texts or images."),
    ] = None,
) -> None:
    """Show what this machine has and where each data set and model comes from; or check your own data set."""
    from lrtl_utils.cli import doctor as machine
    from lrtl_utils.data import hub

    if dataset and mirror:
        raise InputError("--mirror goes without a data set: it checks the files of the mirror.")
    if not dataset and (text_column or label_column or labels is not None):
        raise InputError("--labels, --text-column and --label-column go with a data set; name one.")
    if dataset:
        show(machine.check(dataset, labels, text_column=text_column, label_column=label_column))
    elif mirror:
        lines, whole = machine.mirror_report(hub.mirror())
        show(lines)
        if not whole:
            raise Exit(1)
    else:
        show(machine.report())


def suggest(
    dataset: Annotated[str, Argument(help="Your labelled examples: a file or a folder.")],
    unlabelled: Annotated[
        Path, Option(help="Unlabelled examples: a table, a folder of images, or sentences in a file.")
    ],
    count: Annotated[int, Option("-n", min=1, help="Number of examples to suggest.")] = 50,
    output: Annotated[
        Path | None,
        Option(help="The file to write. Default: NAME.suggested.csv (for sentences, .conll) beside these examples."),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
) -> None:
    """Suggest which examples to label next: a random draw, as a file to fill in. Its path is printed last."""
    from lrtl_utils.data import load
    from lrtl_utils.study import suggest as suggestions

    pool = absolute_path(unlabelled)
    columns = {"text_column": text_column, "label_column": label_column}
    if output is None:
        suffix = "conll" if load.kind_of(dataset, **columns) == "tokens" else "csv"
        output = pool.with_name(f"{pool.stem}.suggested.{suffix}")
    output = absolute_path(output)
    suggestions.require_absent(output)  # before everything is read
    if pool.exists():  # else no folder is made for it
        writable_folder(output.parent)
    found = suggestions.suggest(dataset, pool, count, **columns)
    path = found.write(output)
    show(f"Rows of {pool.name} that are left out: {suggestions.in_words(found.left_out)}.")
    show(found.to_do)
    print(path)


def fetch(
    datasets: Annotated[str | None, Option(help="Names of data sets, separated by commas.")] = None,
    models: Annotated[str | None, Option(help="Names of models, separated by commas.")] = None,
    to: Annotated[
        Path | None, Option(help="Folder of the mirror. Default: LRTL_MIRROR, or else ~/.cache/lrtl/mirror.")
    ] = None,
) -> None:
    """Download data sets and models (default: all) to a folder that can be copied. Run it again to continue."""
    from lrtl_utils.cli.doctor import repositories
    from lrtl_utils.data import hub

    mirror = absolute_path(to) if to else hub.mirror()
    named = [[name.strip() for name in (names or "").split(",") if name.strip()] for names in (datasets, models)]
    wanted = repositories() if datasets is None and models is None else repositories(*named)
    with interruptible("with the remaining files"):
        failures = hub.fetch(wanted, mirror, show)
    print(mirror)
    if failures:
        said = "; ".join(failure.rstrip(".") for failure in failures)  # some are whole sentences
        fail(f"{said}. Run the same command again to continue.", code=1)


def verify(results: Folder = LOCAL) -> None:
    """Check every record of a folder: schema, checksum, identity and protocol. Prints a line for each faulty record."""
    from lrtl_utils.runs import verify as verification

    folder = absolute_path(results)
    report = verification.verify(folder)
    if not report.records:
        raise InputError(f"There are no records in {folder / 'runs'}; give the folder that holds `runs`.")
    show(report.lines())
    if report.faults:
        raise Exit(1)

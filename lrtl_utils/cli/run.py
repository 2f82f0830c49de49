"""One run, and predictions with the model that it saved."""

import sys
import warnings
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from lrtl_utils.cli.common import LOCAL, Parameters, Results, fail, interruptible, pairs
from lrtl_utils.errors import InputError, printable
from lrtl_utils.files import absolute_path, writable_folder


def run(
    notebook: Annotated[
        str,
        Argument(
            help="Name of a task notebook: text_classification, sentiment_analysis, image_classification or "
            "named_entity_recognition."
        ),
    ],
    parameter: Parameters = None,
    results: Results = LOCAL,
    save_model: Annotated[Path | None, Option(help="Folder to save the trained model in.")] = None,
) -> None:
    """Run a task notebook once. The last line printed is the path of its record; stderr has its score."""
    from lrtl_utils.measure import metrics
    from lrtl_utils.runs import store
    from lrtl_utils.runs.notebook import RunFailed, read_parameters, run_notebook
    from lrtl_utils.runs.run import Run

    given = pairs(parameter or [])
    named = given.pop("save_model", "")
    if named.lower() in ("none", "null"):
        named = ""
    if named and save_model:
        raise InputError(f"The folder of the model is given twice, as {named} and as {save_model}.")
    kept = named or save_model
    if kept:
        from lrtl_utils.deploy import export

        kept = export.check(kept)
    asked, results = read_parameters(notebook, given), absolute_path(results)
    store.require_apart(results, [asked])
    if kept and results.resolve().is_relative_to(kept):
        raise InputError(f"{kept} holds the records; --save-model needs a folder of its own, such as {results}/model.")
    writable_folder(results)
    try:
        with interruptible("from the last checkpoint"):
            from lrtl_utils.sweep import kernels, status

            with kernels.forked_kernel():  # it imports what it needs while this process plans
                planned = Run(asked, results=results)
                for name in given:
                    if getattr(asked, name) is not None and getattr(planned.config, name) is None:
                        warnings.warn(f"{name}={given[name]} has no effect on this run.", stacklevel=1)
                with status.showing(planned.results, planned.id):
                    path = run_notebook(notebook, planned.asked, planned.config, planned.id, planned.results, kept)
    except RunFailed as failure:
        print(failure.path)
        fail(str(failure), code=1)
    if kept and (difference := export.differs(kept, path)):
        print(printable(difference), file=sys.stderr)
    record = store.read(path)
    found, data, seconds = metrics.outcome(record), record["data"], record["cost"]["device_seconds"]
    sizes = f"{data['train_size'] + data['validation_size']} labels and {found.examples} test examples"
    print(f"{found.name} {found.score:.3f} with {sizes}, in {seconds:.1f} device seconds", file=sys.stderr)
    print(path)


def predict(
    model: Annotated[Path, Argument(help="A folder that `run --save-model` wrote.")],
    file: Annotated[
        Path, Argument(help="A table, a text file with one text per line, a CoNLL file, or a folder or list of images.")
    ],
    output: Annotated[Path | None, Option(help="The CSV file to write. Default: NAME.predictions.csv.")] = None,
    text_column: Annotated[
        str | None, Option(help="Column of the inputs in a table. Default: that of training, or else by its name.")
    ] = None,
) -> None:
    """Predict the labels of a file with a saved model. The last line printed is the path of the CSV file."""
    from lrtl_utils.deploy import predict as prediction

    print(prediction.predict(model, file, output, text_column))

"""Saved models and records for other programs, and saved models for the hub."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from lrtl_utils.cli.common import interruptible, require_package, show
from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path


def export(
    folder: Annotated[
        Path, Argument(help="With --onnx, a folder that `run --save-model` wrote; with --to, a folder of records.")
    ],
    file: Annotated[
        Path | None, Argument(help="The file to write. Default: one in FOLDER, whose path is printed.")
    ] = None,
    onnx: Annotated[bool, Option("--onnx", help="Write the saved model as one ONNX file, and check it.")] = False,
    int8: Annotated[bool, Option("--int8", help="With --onnx, compute in int8.")] = False,
    rows: Annotated[
        Path | None, Option(help="With --onnx, inputs to check the file on. Default: rows of a shipped data set.")
    ] = None,
    to: Annotated[
        Literal["csv", "parquet", "mlflow", "trackio", "optuna"] | None,
        Option(help="Export the records to this format or program."),
    ] = None,
    uri: Annotated[
        str | None, Option(help="With --to mlflow, the tracking URI. Default: the file mlflow.db in FOLDER.")
    ] = None,
) -> None:
    """Export a saved model to ONNX, or records to a table, MLflow, trackio or Optuna's dashboard."""
    if onnx == bool(to):
        raise InputError("Say what to export: either a saved model with --onnx, or records with --to.")
    if (int8 or rows) and not onnx:
        raise InputError("--int8 and --rows go with --onnx.")
    if uri and to != "mlflow":
        raise InputError("--uri goes with --to mlflow.")
    if file and to in ("mlflow", "trackio"):
        raise InputError(f"--to {to} writes no FILE; leave FILE out.")
    suffix = ".onnx" if onnx else f".{to}"
    if file and suffix in (".onnx", ".csv", ".parquet") and file.suffix.lower() != suffix:
        raise InputError(f"{file} must end in {suffix}, because that is what is written.")
    folder, file = absolute_path(folder), file and absolute_path(file)
    if onnx:
        require_package("onnxruntime")
        from lrtl_utils.deploy import to_onnx

        written = to_onnx.write(folder, file, int8=int8, rows=rows)
        show([*written.lines(), str(written.path)])
        return
    if to in ("mlflow", "trackio", "optuna"):
        require_package(to)
    from lrtl_utils.study import exports

    places = {"mlflow": [uri], "trackio": []}.get(to, [file])
    with interruptible("with the remaining runs"):
        show(getattr(exports, to)(folder, *places))


def push(
    model: Annotated[Path, Argument(help="A folder that `run --save-model` wrote.")],
    repository: Annotated[str, Argument(help="The repository on the hub, as org/name; created if it does not exist.")],
    licence: Annotated[
        str, Option("--license", help="License of the model, as the hub names it, for example apache-2.0.")
    ],
    private: Annotated[
        bool, Option("--private", help="Make the new repository private. An existing public one is refused.")
    ] = False,
) -> None:
    """Upload a saved model, with its model card, to the hub. The last line printed is its address."""
    from lrtl_utils.deploy import push as pushing

    print(pushing.push(model, repository, licence, private=private))

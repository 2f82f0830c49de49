"""A saved model as one ONNX file for onnxruntime, compared with the model before it is kept."""

import logging
import os
import tempfile
import timeit
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from lrtl_utils.data.load import load
from lrtl_utils.deploy import export
from lrtl_utils.deploy.predict import read
from lrtl_utils.errors import InputError, counted, reason
from lrtl_utils.files import absolute_path, writable_folder, writing_to
from lrtl_utils.measure.metrics import PREDICT_BATCH
from lrtl_utils.models.encoding import by_length
from lrtl_utils.models.network import Batch, Model
from lrtl_utils.models.own import PARTIAL

FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
OUTPUT = "scores"
# The inputs of a graph by what a batch calls them: their names, and the axes that may have any length.
INPUTS = {
    "ids": ("input_ids", {0: "rows", 1: "tokens"}),
    "mask": ("attention_mask", {0: "rows", 1: "tokens"}),
    "words": ("words", {0: "rows", 1: "words"}),
    "shapes": ("shapes", {0: "rows", 1: "words"}),
    "pixels": ("pixels", {0: "rows"}),
}
SAMPLES = {"text": "reviews_sample", "tokens": "entities_sample", "image": "digits"}  # shipped, by kind of model
SAMPLE_ROWS = 64
TOLERANCE = 1e-3  # of a score, and of its size where it is above 1: the same sums, rounded in another order
MOST_BYTES = onnx.checker.MAXIMUM_PROTOBUF  # of a file in this format
REPEATS = 3  # of a timed pass, of which the fastest counts


@dataclass(frozen=True)
class Written:
    """An ONNX file, and how it compares with the model on `rows` of the data `source`.

    `difference` is the largest difference of a score (logit), divided by the size of the score where that is above
    1. `equal` is the share in [0, 1] of equal answers: of rows, or of words for a tagger, with the scores of both
    decoded alike.
    `speed` is torch's time over onnxruntime's, both with so many `threads`.
    """

    path: Path
    source: str
    rows: int
    difference: float
    equal: float
    speed: float
    threads: int

    def lines(self) -> list[str]:
        """What a user wants to know, one sentence each."""
        same = f"{self.equal:.1%} of the answers are the same as the model's"
        return [
            f"On {counted(self.rows, 'row')} of {self.source}, {same}, and no score differs by more than "
            f"{self.difference:.2g}; for a score above 1 or below -1, this is a share of the score.",
            f"On these rows, onnxruntime is {self.speed:.2f} times as fast as torch "
            f"(CPU, {counted(self.threads, 'thread')}).",
            f"The file is {self.path.stat().st_size / 1e6:.1f} MB.",
        ]


def write(
    folder: str | Path, file: str | Path | None = None, *, int8: bool = False, rows: str | Path | None = None
) -> Written:
    """Write the model saved in `folder` as ONNX to `file` (None: in the folder), in fp32 or int8.

    Its answers are compared with the model's in fp32 on the inputs in the file or folder `rows` (None: on the first
    test rows of a shipped data set). `InputError`, and no file, where a score in fp32 differs by more than `TOLERANCE`,
    where the model has no such graph, or where the file is there and holds something else. In int8 the answers may
    differ, and `Written` says how many do.
    """
    folder = absolute_path(folder)
    target = absolute_path(file) if file else folder / (INT8_FILE if int8 else FILE)
    if target.exists():
        _require_ours(target)
    kept = export.load(folder)
    model, reader = kept.model, kept.model.reader
    if reader.kind == "bag":
        raise InputError(
            f"The model in {folder} reads counts of words, which are made outside of any ONNX graph; export a model "
            "that reads tokens or images."
        )
    if int8 and reader.kind == "image":
        raise InputError(f"Image models lose too much accuracy in int8; export the model in {folder} without --int8.")
    size = sum(weight.nbytes for weight in model.parameters())
    if size > MOST_BYTES and not int8:
        raise InputError(
            f"The weights of the model in {folder} take {size / 1e9:.1f} GB, and an ONNX file holds at most 2; "
            "export it with --int8."
        )
    source = str(rows or SAMPLES[kept.kind])
    if rows:
        _, examples, _ = read(kept, absolute_path(rows))
    else:
        examples = load(source).test.take(np.arange(SAMPLE_ROWS))
    data = reader.encode(examples.inputs, examples.targets)
    batches = [reader.batch(data, positions) for positions in by_length(data.lengths, PREDICT_BATCH)]
    names = [name for name in INPUTS if name in batches[0]]
    with tempfile.TemporaryDirectory(dir=writable_folder(target.parent), prefix=PARTIAL) as temporary:
        path = Path(temporary) / FILE
        _export(model, batches[0], names, path)
        if int8:
            path = _quantized(path)
        _describe(path, kept)
        written = Written(target, source, len(examples), *_compared(model, batches, names, path))
        if not int8 and not written.difference <= TOLERANCE:  # nor NaN
            raise InputError(
                f"{target} was not written: on {source}, a score of onnxruntime differs from the model's by "
                f"{written.difference:.2g}, more than the {TOLERANCE:g} allowed."
            )
        with writing_to(target):
            os.replace(path, target)
    return written


def _require_ours(target: Path) -> None:
    """`InputError` unless the file has the facts that `_describe` writes, so that no other model is overwritten."""
    try:
        onnx.checker.check_model(target)  # its error is a class of onnx; that of `load` is of another package
        facts = {fact.key for fact in onnx.load(target, load_external_data=False).metadata_props}
    except (onnx.checker.ValidationError, OSError):  # it is another kind of file, or a folder
        facts = set()
    if not {"kind", "labels"} <= facts:
        raise InputError(
            f"{target} is no model that this project exported, so it is not overwritten; name another file."
        )


def _export(model: Model, batch: Batch, names: Sequence[str], path: Path) -> None:
    """By tracing: torch's other exporter needs onnxscript, and takes several times as long for the same graph."""
    inputs = [INPUTS[name] for name in names]
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of torch, about its own functions
            torch.onnx.export(
                model,
                ({name: batch[name].contiguous() for name in names}, {}),  # torch takes a last one for named arguments
                str(path),  # beside one that is a text, torch can put weights of more than 2 GB into files of their own
                input_names=[name for name, _ in inputs],
                output_names=[OUTPUT],
                dynamic_axes=dict(inputs),
                dynamo=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(f"The model cannot be exported to ONNX: {reason(error)}") from error


def _quantized(path: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_name(INT8_FILE)
    logging.disable(logging.WARNING)  # for every tensor of integers, it warns that it is left as it is
    try:
        quantize_dynamic(path, target, weight_type=QuantType.QUInt8)
    finally:
        logging.disable(logging.NOTSET)
    return target


def _describe(path: Path, kept: export.SavedModel) -> None:
    """Put into the file what its user needs and no graph says: the classes, and how inputs are read."""
    graph, reader = onnx.load(path), kept.model.reader
    labels = "\n".join(name.replace("\n", " ") for name in kept.classes)  # a line for each
    facts = {"kind": kept.kind, "labels": labels, "max_length": reader.max_length, "temperature": kept.temperature}
    if reader.kind == "image":
        mean, std = list(reader.collate.mean), list(reader.collate.std)
        facts |= {"mean": mean, "std": std, "image_size": reader.collate.image_size}
    onnx.helper.set_model_props(graph, {name: str(value) for name, value in facts.items() if value is not None})
    onnx.save(graph, path)


def _compared(
    model: Model, batches: Sequence[Batch], names: Sequence[str], path: Path
) -> tuple[float, float, float, int]:
    """What `Written` says from `difference` on."""
    threads = torch.get_num_threads()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = [{INPUTS[name][0]: batch[name].contiguous().numpy() for name in names} for batch in batches]

    def ours() -> list[torch.Tensor]:
        return [model(batch) for batch in batches]

    def theirs() -> list[torch.Tensor]:
        return [torch.from_numpy(session.run([OUTPUT], each)[0]) for each in given]

    def answers(scores: Sequence[torch.Tensor]) -> np.ndarray:
        """The predicted classes, of all words one after the other for a tagger."""
        decoded = [model.decode(*pair)[0] for pair in zip(scores, batches, strict=True)]
        return np.concatenate([np.atleast_1d(answer) for batch in decoded for answer in batch])

    with torch.inference_mode():
        scores = ours(), theirs()
        equal = float(np.mean(answers(scores[0]) == answers(scores[1])))
        torch_seconds, onnx_seconds = (min(timeit.repeat(run, repeat=REPEATS, number=1)) for run in (ours, theirs))
    differences = [((one - other).abs() / one.abs().clamp(min=1)).max() for one, other in zip(*scores, strict=True)]
    return float(torch.stack(differences).max()), equal, torch_seconds / onnx_seconds, threads

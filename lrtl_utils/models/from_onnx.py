"""The weights of a BERT encoder from an ONNX file, as torch exports a sentence-transformers model."""

from pathlib import Path

import torch

from lrtl_utils.errors import InputError

PREFIX = "model.0.auto_model."  # of a weight that has kept its name: sentence-transformers' first module is the encoder
POOLER = "pooler."  # mean pooling does not use it, so the exporter drops it


def load(net: torch.nn.Module, path: Path) -> None:
    """Replace the weights of `net`, a BertModel, by those of the file; a pooler keeps what it has.

    `InputError` unless the file has every other weight of the model, in its shape, and no more.
    """
    weights = read(path)
    needed = {name: weight.shape for name, weight in net.state_dict().items() if not name.startswith(POOLER)}
    found = {name: weight.shape for name, weight in weights.items()}
    wrong = sorted(name for name in needed.keys() | found.keys() if needed.get(name) != found.get(name))
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InputError(f"{path} does not fit the model: {wrong[0]}{more} is missing, unknown or of another shape.")
    net.load_state_dict(weights, strict=False)


def read(path: Path) -> dict[str, torch.Tensor]:
    """The weights of the file by their names in BertModel; a weight whose name is not found keeps the file's name.

    The exporter transposes the matrix of a linear layer and drops its name. The bias that is added to the product with
    the matrix keeps its own.
    """
    import onnx  # a fifth of a second, and one model needs it

    graph = onnx.load(path).graph
    weights = {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in graph.initializer}
    matrix_of = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    sums = [tuple(node.input) for node in graph.node if node.op_type == "Add"]
    bias_of = {matrix_of[one]: other for a, b in sums for one, other in ((a, b), (b, a)) if one in matrix_of}
    named = {}
    for name, weight in weights.items():
        if bias_of.get(name) in weights:
            name, weight = bias_of[name].removesuffix("bias") + "weight", weight.T
        named[name.removeprefix(PREFIX)] = weight
    return named

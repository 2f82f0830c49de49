"""A trained model as a folder that works without this project, and back from it."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForTokenClassification

from lrtl_utils.config import RunConfig, resolve_device
from lrtl_utils.data import own
from lrtl_utils.data.catalog import TASKS, Kind
from lrtl_utils.data.own import tables
from lrtl_utils.deploy import card
from lrtl_utils.errors import InputError, counted, reason, shown
from lrtl_utils.files import absolute_path, writable_folder
from lrtl_utils.models.build import build, build_tfidf
from lrtl_utils.models.catalog import find
from lrtl_utils.models.heads import Tagger
from lrtl_utils.models.network import Model, small_batch
from lrtl_utils.models.own import KEPT_FILE, is_partial
from lrtl_utils.runs import store

CRF_FILE = "crf.safetensors"
WEIGHTS_FILE = "weights.safetensors"  # of a model that no library builds
VOCABULARY_FILE = "vocabulary.json"
DENSE = "2_Dense/model.safetensors"
TOLERANCE = 1e-4  # of scores, between a model here and the same as a library builds it


@dataclass(frozen=True)
class SavedModel:
    """A model that was saved: text, image or tokens, its classes, and the device and precision that it was judged with.

    Its logits are divided by the `temperature` before they are made probabilities.
    A device that is absent here is replaced by the CPU.
    """

    model: Model
    kind: str
    classes: tuple[str, ...]
    config: RunConfig
    temperature: float
    # The columns of a table in which the inputs are looked for, in this order: the `text_column` that training was
    # given; without one, the column that training found, and then those with usual names.
    columns: tuple[str, ...]


class SavedFacts(BaseModel):
    """What `load` needs of the file that `save` wrote beside the library's own."""

    form: Literal["PooledClassifier", "OwnClassifier", "Tagger", "ImageClassifier", "SimpleNN", "LinearBag"]
    kind: Kind
    labels: list[str]
    head: dict[Literal["file", "weight", "bias"], str] | None
    max_length: int | None
    image_size: int | None
    crf: bool
    tail: float = 0.0
    layers: int = 1
    word_shape: bool = False
    temperature: float | None = Field(None, gt=0)
    text_column: str | None = None
    found_column: str | None = None
    files: list[str] | None = None  # in the folder, or folders in it; unknown in models of earlier versions
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16", "fp16"]


def check(folder: str | Path) -> Path:
    """The absolute path of a folder that may be written; `InputError` if something else lies there.

    `save` puts a new folder in its place. The folder around it is made, so that a place that cannot be written is
    refused before a run.
    """
    target = absolute_path(folder).resolve()  # the folder that a link names, so that the link stays
    if os.path.ismount(target):
        raise InputError(f"{target} is where a volume is mounted, so it cannot be replaced; name a folder below it.")
    ours = target.is_dir() and (not any(target.iterdir()) or (target / KEPT_FILE).is_file())
    if target.exists() and not ours:
        found = "exists and is not a model that this project saved, so it is not overwritten"
        raise InputError(f"{target} {found}; name another folder.")
    if others := _others(target):
        raise InputError(
            f"{target} has {shown(others[0])}, which is no part of the model there and would be lost; move it, or name "
            "another folder."
        )
    writable_folder(target.parent)
    return target


def _others(folder: Path) -> list[str]:
    """What lies in the folder of a saved model beside what `save` and the export to ONNX wrote."""
    try:
        written = SavedFacts.model_validate_json((folder / KEPT_FILE).read_bytes()).files
    except (OSError, ValueError):  # there is no model
        return []
    found = sorted(path.name for path in folder.iterdir() if path.suffix != ".onnx" and not is_partial(path))
    return [] if written is None else [name for name in found if name not in written]


@torch.no_grad()
def save(
    model: Model,
    classes: Sequence[str],
    record: Path,
    folder: str | Path | None,
    measured: dict[str, Any] | None = None,
) -> Path | None:
    """Keep the model of a completed record in `folder`, whole or not at all; None keeps nothing.

    Sentence-Transformers' layout for mean-pooled texts, transformers' for an architecture's own head and for taggers,
    timm's for images; what no library has a form for is read by `load`. An earlier kept model there is replaced.
    `measured` is what this model scored, where an earlier run made the record that stands.
    The model is left on the CPU, with LoRA's additions merged into its weights.
    """
    if folder is None:
        return None
    target = check(folder)
    written = store.read(record)
    described = card.without_places(measured or written)
    merge(model.cpu().eval())
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:40]}."))
    try:
        form = type(model).__name__
        facts = _facts(model, classes, described) | {"form": form, "head": _WRITERS[form](model, classes, temporary)}
        facts["found_column"] = _found_column(record.parents[2], written["config"])
        (temporary / "record.json").write_text(json.dumps(described, indent=1))
        (temporary / "README.md").write_text(card.card(described, card.seeds(record), facts), encoding="utf-8")
        facts["files"] = sorted([KEPT_FILE, *(path.name for path in temporary.iterdir())])
        (temporary / KEPT_FILE).write_text(json.dumps(facts, indent=1))
        _require_whole(model, temporary)
        for path in [temporary, *temporary.rglob("*")]:  # the libraries leave some to their owner alone
            path.chmod(0o755 if path.is_dir() else 0o644)
        _put(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _require_whole(model: Model, folder: Path) -> None:
    """`InputError` if a part of the model is not in the folder: a method may add layers that no library's form has."""
    try:
        saved = load(folder).model.state_dict()
    except InputError:
        saved = {}
    whole = model.state_dict()
    lost = [name for name, part in whole.items() if name not in saved or not torch.equal(saved[name], part)]
    if lost:
        raise InputError(
            f"The model cannot be saved, because {counted(len(lost), 'tensor')} would be lost, such as {lost[-1]}; the "
            "saved form has no place for layers that a method adds."
        )


def differs(folder: Path, record: Path) -> str | None:
    """A warning if a run that was repeated for its model is right on other examples than its record says; else None."""
    again, before = json.loads((folder / "record.json").read_text()), store.read(record)
    if again["metrics"]["hits"] == before["metrics"]["hits"]:  # the loss may differ in its last digits
        return None
    return (
        "This run had a record already, and was repeated to save its model. The repetition has an accuracy of "
        f"{again['metrics']['accuracy']:.4f}, and the record {before['metrics']['accuracy']:.4f}, because the machine "
        f"or the versions differ. The model in {folder} has its own record beside it, and the earlier record stays."
    )


def load(folder: str | Path) -> SavedModel:
    """Load the model that `save` wrote, from its folder alone, in eval mode. `InputError` if it is incomplete."""
    folder = absolute_path(folder)
    try:
        noted = SavedFacts.model_validate_json((folder / KEPT_FILE).read_bytes())
    except (OSError, ValueError):
        raise InputError(
            f"{folder} is not a folder that `lrtl run --save-model` wrote: it has no valid {KEPT_FILE}."
        ) from None
    try:
        model = _load(folder, noted)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder} is not a complete saved model: {reason(error)}.") from None
    try:
        where = RunConfig(device=resolve_device(noted.device), precision=noted.precision)
    except InputError:  # the device is absent here
        where = RunConfig(device="cpu", precision="fp32")
    usual = sorted(tables.INPUTS, key=lambda name: name not in tables.OF_KIND.get(noted.kind, ()))
    columns = (noted.text_column,) if noted.text_column else (noted.found_column or "", *usual)
    return SavedModel(model.eval(), noted.kind, tuple(noted.labels), where, noted.temperature or 1.0, columns)


def _load(folder: Path, noted: SavedFacts) -> Model:
    scores = len(noted.labels)
    if noted.form == "LinearBag":
        model = _load_tfidf(folder)
        scores = model.head.out_features
    else:
        named = "simple_nn" if noted.form == "SimpleNN" else str(folder)
        read = {"layers": noted.layers, "word_shape": noted.word_shape}
        config = RunConfig(model=named, image_size=noted.image_size, **read)
        pooling = "own" if noted.form == "OwnClassifier" else "mean"
        model = build(config, noted.kind, len(noted.labels), find(named), pooling=pooling)
    if noted.form == "OwnClassifier":  # whose head was made anew if it is of other classes
        scores = AutoConfig.from_pretrained(folder).num_labels
    if scores != len(noted.labels):
        raise InputError(f"{folder / KEPT_FILE} has {len(noted.labels)} labels for {scores} scores.")
    if noted.form == "SimpleNN":
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
    if noted.head:
        tensors = load_file(folder / noted.head["file"])
        model.head[-1].load_state_dict({part: tensors[noted.head[part]] for part in ("weight", "bias")})
    if noted.crf:
        model.crf.load_state_dict(load_file(folder / CRF_FILE))
    model.reader.max_length, model.reader.tail = noted.max_length, noted.tail
    return model


def merge(model: Model) -> None:
    """Add what LoRA trained into the weights that it adapts, in place; other models are left as they are."""
    # Slow to import, and only LoRA needs it.
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
        elif isinstance(layer, ModulesToSaveWrapper):
            model.set_submodule(name, layer.modules_to_save[layer.active_adapter])


def _found_column(results: Path, config: dict[str, Any]) -> str | None:
    """The column of a table that a run read its inputs from; None where the data are in none, or no longer there."""
    dataset = store.place(results, config["dataset"])
    if dataset in TASKS:
        return None
    try:
        found = own.columns_of(dataset, config["text_column"], config["label_column"])
    except (InputError, OSError):  # the data have moved or changed since
        return None
    return found and found[0]


def _facts(model: Model, classes: Sequence[str], record: dict[str, Any]) -> dict[str, Any]:
    """What no library's config says."""
    reader = model.reader
    return {
        "kind": "text" if reader.kind == "bag" else reader.kind,
        "labels": list(classes),
        "max_length": reader.max_length,
        "tail": reader.tail,
        "image_size": reader.collate.image_size,
        "layers": model.layers,
        "word_shape": reader.word_shape,
        "crf": getattr(model, "crf", None) is not None,
        "temperature": record["model"].get("temperature"),
        "device": record["config"]["device"],
        "precision": record["environment"]["precision"],
        "text_column": record["config"]["text_column"],
    }


def _put(temporary: Path, target: Path) -> None:
    """Rename; what was there before goes only when the new one stands.

    If the process is killed between the two renames, the earlier model is left beside it, under a name with `.old`.
    """
    old = temporary.with_name(f"{temporary.name}.old")
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(temporary, target)
    except BaseException:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_pooled(model: Model, classes: Sequence[str], folder: Path) -> dict[str, str]:
    """Transformer, Pooling, Dense, as Sentence-Transformers loads them; its `encode` then gives the logits.

    It has no form for a head that reads several layers, which gets the backbone alone.
    """
    _save_backbone(model.backbone, model, classes, folder)
    linear = model.head[-1]
    if model.layers > 1:
        return _save_head(linear, folder, card.HEAD_FILE, "head")
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
    rows = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    pooling = {"word_embedding_dimension": linear.in_features, "pooling_mode_mean_tokens": True}
    dense = {"in_features": linear.in_features, "out_features": linear.out_features, "bias": True}
    dense |= {"activation_function": "torch.nn.modules.linear.Identity"}
    for name, content in (
        ("modules.json", rows),
        ("sentence_bert_config.json", {"max_seq_length": model.reader.max_length, "do_lower_case": False}),
        ("config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": None}),
        ("1_Pooling/config.json", pooling),
        ("2_Dense/config.json", dense),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2))
    return _save_head(linear, folder, DENSE, "linear")


def _write_tagger(model: Tagger, classes: Sequence[str], folder: Path) -> dict[str, str]:
    """As transformers' token classifier, where that gives the same scores; else the backbone alone.

    With a CRF those are the scores that it decodes; its transitions lie beside.
    """
    model.backbone.config.num_labels = len(classes)
    net, name = _token_classifier(model) or (model.backbone, None)
    _save_backbone(net, model, classes, folder)
    if model.crf is not None:
        _save(model.crf.state_dict(), folder / CRF_FILE)
    if name:
        return {"file": "model.safetensors", "weight": f"{name}.weight", "bias": f"{name}.bias"}
    return _save_head(model.head[-1], folder, card.HEAD_FILE, "head")


def _token_classifier(model: Tagger) -> tuple[Any, str] | None:
    """The tagger as transformers' token classifier of its architecture, and the name of the head in it.

    None where that has other parts, and for a head that reads several layers or the shapes of words.
    """
    if model.layers > 1 or model.reader.word_shape:
        return None
    try:
        net = AutoModelForTokenClassification.from_config(model.backbone.config, dtype=torch.float32).eval()
    except ValueError:  # the architecture has no token classifier
        return None
    linear = [(name, layer) for name, layer in net.named_children() if isinstance(layer, torch.nn.Linear)]
    loaded = net.base_model.load_state_dict(model.backbone.state_dict(), strict=False)
    if len(linear) != 1 or linear[0][1].bias is None or loaded.unexpected_keys:
        return None
    name, head = linear[0]
    head.load_state_dict(model.head[-1].state_dict())
    ids = torch.arange(8)[None]
    batch = {"ids": ids, "mask": torch.ones_like(ids), "words": ids}
    same = torch.allclose(net(input_ids=ids).logits, model(batch), rtol=0, atol=TOLERANCE)
    return (net, name) if same else None


def _write_image(model: Model, classes: Sequence[str], folder: Path) -> dict[str, str]:
    """As timm's `local-dir:` loads it, where its classifier is a linear layer as here; else the backbone alone."""
    net, collate, linear = model.backbone, model.reader.collate, model.head[-1]
    size = collate.image_size
    reading = {"input_size": (3, size, size), "mean": collate.mean, "std": collate.std}
    reading |= {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}
    pixels = small_batch(model)["pixels"]
    expected = model({"pixels": pixels})
    net.reset_classifier(len(classes))
    classifier = net.get_classifier()
    same = isinstance(classifier, torch.nn.Linear) and classifier.weight.shape == linear.weight.shape
    if same:
        classifier.load_state_dict(linear.state_dict())
        same = torch.allclose(net(pixels), expected, rtol=0, atol=TOLERANCE)
    if not same:
        net.reset_classifier(0)
    from timm.models import save_for_hf  # its import takes seconds, and no text needs it

    save_for_hf(net, folder, {"label_names": list(classes), "pretrained_cfg": reading}, safe_serialization=True)
    if not same:
        return _save_head(linear, folder, card.HEAD_FILE, "head")
    name = next(name for name, module in net.named_modules() if module is classifier)
    net.reset_classifier(0)
    return {"file": "model.safetensors", "weight": f"{name}.weight", "bias": f"{name}.bias"}


def _write_tfidf(model: Model, classes: Sequence[str], folder: Path) -> None:
    vectorizer = model.reader.tokenizer
    vocabulary = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.get)
    (folder / VOCABULARY_FILE).write_text(json.dumps(vocabulary))
    _save(model.head.state_dict() | {"idf": torch.from_numpy(vectorizer.idf_)}, folder / WEIGHTS_FILE)


def _load_tfidf(folder: Path) -> Model:
    model, tensors = build_tfidf(), load_file(folder / WEIGHTS_FILE)
    vectorizer = model.reader.tokenizer
    vectorizer.vocabulary = json.loads((folder / VOCABULARY_FILE).read_text())
    vectorizer.idf_ = tensors.pop("idf").numpy()
    model.head = torch.nn.Linear(*reversed(tensors["weight"].shape))
    model.head.load_state_dict(tensors)
    return model


_WRITERS = {
    "PooledClassifier": _write_pooled,
    "OwnClassifier": lambda model, classes, folder: _save_backbone(model.net, model, classes, folder),
    "Tagger": _write_tagger,
    "ImageClassifier": _write_image,
    "SimpleNN": lambda model, classes, folder: _save(model.state_dict(), folder / WEIGHTS_FILE),
    "LinearBag": _write_tfidf,
}


def _save_backbone(net: Any, model: Model, classes: Sequence[str], folder: Path) -> None:
    """A transformers model with the names of its labels, and its tokenizer."""
    net.config.id2label = dict(enumerate(classes))
    net.config.label2id = {label: i for i, label in enumerate(classes)}
    net.save_pretrained(folder)
    model.reader.tokenizer.model_max_length = model.reader.max_length  # where the libraries cut
    model.reader.tokenizer.save_pretrained(folder)


def _save_head(linear: Any, folder: Path, file: str, name: str) -> dict[str, str]:
    _save(linear.state_dict(prefix=f"{name}."), folder / file)
    return {"file": file, "weight": f"{name}.weight", "bias": f"{name}.bias"}


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})

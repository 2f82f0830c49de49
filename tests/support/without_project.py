"""Run by a test in a process that cannot import the project: kept models as the libraries alone load them."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)


class Absent:
    """Makes `import lrtl_utils` fail, installed or not."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lrtl_utils":
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Absent())


def pooled(folder, texts):
    """What Sentence-Transformers' Transformer, Pooling and Dense do."""
    tokenizer, net = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    length = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    mask = batch["attention_mask"][..., None]
    mean = (net.eval()(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
    dense = load_file(folder / "2_Dense/model.safetensors")
    return mean @ dense["linear.weight"].T + dense["linear.bias"], net.config.id2label


def classified(folder, texts):
    tokenizer, net = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    return net.eval()(**batch).logits, net.config.id2label


def tagged(folder, sentences):
    """Scores of each word's first sub-word."""
    tokenizer, net = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder)
    rows = []
    for words in sentences:
        batch = tokenizer([words], is_split_into_words=True, truncation=True, max_length=16, return_tensors="pt")
        first = {word: i for i, word in reversed([*enumerate(batch.word_ids(0))]) if word is not None}
        rows.append(net.eval()(**batch).logits[0, [first[word] for word in sorted(first)]])
    return torch.cat(rows), net.config.id2label


def seen(folder, images):
    net = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
    pictures = [Image.fromarray(np.array(image, dtype=np.uint8)).convert("RGB") for image in images]
    names = json.loads((folder / "config.json").read_text())["label_names"]
    return net(torch.stack([transform(picture) for picture in pictures])), dict(enumerate(names))


READ = {"own_head": classified, "softmax": tagged, "crf": tagged, "image": seen, "image_lora": seen}
folder, found = Path(sys.argv[1]), {}
for name in sys.argv[2:]:
    with torch.inference_mode():
        scores, labels = READ.get(name, pooled)(folder / name, json.loads((folder / f"{name}.json").read_text()))
    assert list(labels.values()) == json.loads((folder / name / "record.json").read_text())["data"]["labels"]
    found[name] = scores.contiguous()
    (code,) = re.findall(r"```python\n(.*?)```", (folder / name / "README.md").read_text(), re.DOTALL)
    if "sentence_transformers" not in code:  # the lines that the card gives
        exec(code.replace("FOLDER", str(folder / name)), {"picture": Image.new("RGB", (8, 8))})
assert "lrtl_utils" not in sys.modules
save_file(found, folder / "without_project.safetensors")

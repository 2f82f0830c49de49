"""Examples as a model reads them: encoded once, ordered, and stacked into batches."""

import importlib
import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from lrtl_utils.errors import InputError, Undecodable

MULTIPLE = 8  # padded lengths are multiples of it, so that few distinct shapes occur
FILLED = 0.9  # of a batch's length, at least, where no order is asked for
PAD_TAG = 0
# What a word looks like: lower case, Title case, UPPER case, other case; a digit in it, digits and no letters, neither
# letters nor digits. Those of the word, of the one before it and of the one after it, and whether it is the first.
LOOKS = 7
SHAPE_COLUMNS = 3 * LOOKS + 1
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # of images; others are read by other programs, or rare
MOST_PIXELS = 50_000_000  # of one image, as it comes and as it is resized; in memory four bytes each
# What `decode_image` raises; struct.error is of a damaged EXIF block, and TypeError of a damaged TIFF.
UNDECODABLE = (OSError, ValueError, TypeError, SyntaxError, AttributeError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Encoded:
    """Inputs ready to be stacked. `rows` hold, by kind:

    text: token ids; tokens: (token ids, position of each word's first sub-word); image: uint8 [3, height, width];
    bag: sparse [1, features]. `lengths` int [n] are tokens (1 for images and bags); `targets` as in `Examples`.
    `shapes`, where a tagger reads them, are uint8 [words, SHAPE_COLUMNS] for each row.
    """

    kind: str
    rows: list[Any]
    lengths: np.ndarray
    targets: Sequence[Any]
    shapes: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def joined(self, other: "Encoded") -> "Encoded":
        """These rows, then the other's."""
        lengths = np.concatenate([self.lengths, other.lengths])
        shapes = None if self.shapes is None else [*self.shapes, *other.shapes]
        return Encoded(self.kind, [*self.rows, *other.rows], lengths, [*self.targets, *other.targets], shapes)


@dataclass(frozen=True)
class Collator:
    """How rows become tensors: the padding token, the size of images and their statistics."""

    pad_id: int = 0
    image_size: int | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    augment: bool = False

    def __post_init__(self) -> None:
        if self.image_size:  # now, off the clock; for texts never, because it takes seconds
            importlib.import_module("torchvision.transforms.v2")

    def __call__(
        self, data: Encoded, positions: np.ndarray, pad_to: int | None = None, train: bool = False
    ) -> dict[str, torch.Tensor]:
        """A batch of the rows at these positions, by kind.

        `ids` and `mask` [batch, tokens], for tagging with `words` and `word_mask` [batch, words] and, where the rows
        have them, `shapes` [batch, words, SHAPE_COLUMNS]; `pixels` [batch, 3, size, size]; or `bag` [batch, features].
        In each, `targets` [batch] or [batch, words].
        Token ids are padded to `pad_to`, else to the longest in the batch; images are augmented only for `train`.
        """
        rows = [data.rows[i] for i in positions]
        if data.kind == "image":
            batch = self._images(rows, self.augment and train)
        elif data.kind == "bag":  # a vectorizer's rows are sparse and short in memory; only a batch is ever dense
            batch = {"bag": torch.from_numpy(np.concatenate([row.toarray() for row in rows]).astype(np.float32))}
        elif data.kind == "text":
            batch = self._texts(rows, pad_to)
        else:
            batch = self._texts([ids for ids, _ in rows], pad_to)
            batch["words"] = _padded([words for _, words in rows], 0, max(len(words) for _, words in rows))
        if data.shapes is not None:
            shapes = [torch.from_numpy(data.shapes[i]) for i in positions]
            batch["shapes"] = torch.nn.utils.rnn.pad_sequence(shapes, batch_first=True).float()
        return batch | answers(data, positions)

    def _texts(self, rows: list[list[int]], pad_to: int | None) -> dict[str, torch.Tensor]:
        lengths = [len(ids) for ids in rows]
        length = pad_to or round_up(max(lengths))
        return {"ids": _padded(rows, self.pad_id, length), "mask": _prefix_mask(lengths, length)}

    def _images(self, rows: list[torch.Tensor], augment: bool) -> dict[str, torch.Tensor]:
        from torchvision.transforms import v2

        size = self.image_size
        crop = v2.Compose(
            [v2.RandomCrop(size, padding=size // 8, padding_mode="reflect"), v2.RandomHorizontalFlip()]
            if augment
            else [v2.CenterCrop(size)]
        )
        resize = partial(v2.functional.resize, size=[size], interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
        alike = len({row.shape for row in rows}) == 1  # then one call resizes them all, to the same values
        pixels = torch.stack([crop(image) for image in (resize(torch.stack(rows)) if alike else map(resize, rows))])
        return {"pixels": v2.functional.normalize(pixels.float() / 255, self.mean, self.std)}


@dataclass
class Reader:
    """What turns a task's inputs into rows: a tokenizer, a vectorizer or an image size, and its collator.

    `max_length` may be set once the training texts have been seen; `limit` is what the model's positions allow.
    """

    kind: str  # of the rows
    collate: Collator
    tokenizer: Any = None  # for bags: a fitted vectorizer
    max_length: int | None = None
    limit: int = 512
    word_shape: bool = False  # of sentences, whether the words' shapes are read too
    tail: float = 0.0  # of max_length, the share that a longer text's end has; its beginning has the rest
    plain: bool = False  # training batches as an example script has them: texts padded to max_length, channels first

    def batch(self, data: Encoded, positions: np.ndarray, *, train: bool = False) -> dict[str, torch.Tensor]:
        """Stack the rows at `positions`. Only training batches of a `plain` reader have the example scripts' form.

        No prediction depends on the padding or the layout, so all other batches have the faster form.
        """
        plain = self.plain and train
        batch = self.collate(data, positions, self.max_length if plain else None, train)
        if "pixels" in batch and not plain:  # convolutions on a CPU are about 1.5 times faster so
            batch["pixels"] = batch["pixels"].contiguous(memory_format=torch.channels_last)
        return batch

    def encode(self, inputs: Sequence[Any], targets: Sequence[Any]) -> Encoded:
        """Rows with their targets; texts cut to `max_length`, or uncut while it is None."""
        if self.kind == "image":
            return encode_images(inputs, targets, self.collate.image_size)
        if self.kind == "bag":
            return encode_bags(inputs, targets, self.tokenizer)
        if self.kind == "text":
            data = encode_text(inputs, targets, self.tokenizer)
        else:
            data = encode_words(inputs, targets, self.tokenizer, self.word_shape)
        return self.cut(data) if self.max_length else data

    def cut(self, data: Encoded) -> Encoded:
        """Texts cut to `max_length` tokens. The share `tail` of these, at least the closing one, is from their end.

        Of sentences to tag, only the closing token is from the end; `predict` tags the words past the cut O.
        """
        most, tail = self.max_length, max(1, round(self.tail * self.max_length))
        if not len(data) or data.lengths.max() <= most:
            return data
        rows = []
        for row in data.rows:
            ids, words = row if data.kind == "tokens" else (row, [])
            if len(ids) <= most:
                rows.append(row)
                continue
            ids = ids[: most - tail] + ids[-tail:]
            kept = [position for position in words if position < most - 1]
            rows.append((ids, kept or [0]) if data.kind == "tokens" else ids)
        shapes = data.shapes and [shape[: len(row[1])] for shape, row in zip(data.shapes, rows, strict=True)]
        return Encoded(data.kind, rows, np.minimum(data.lengths, most), data.targets, shapes)


def answers(data: Encoded, positions: np.ndarray) -> dict[str, torch.Tensor]:
    """The `targets` of a batch, [batch] or [batch, words]; for tagging also `word_mask`, which hides the padding."""
    targets = [data.targets[i] for i in positions]
    if data.kind != "tokens":
        return {"targets": torch.tensor(np.asarray(targets), dtype=torch.long)}
    known = [len(data.rows[i][1]) for i in positions]
    padded = _padded([tags[: max(known)] for tags in targets], PAD_TAG, max(known))
    return {"word_mask": _prefix_mask(known, max(known)).bool(), "targets": padded}


def encode_text(texts: Sequence[str], targets: Sequence[Any], tokenizer: Any) -> Encoded:
    """Token ids with the special tokens, uncut. An empty text is kept: it is its special tokens alone.

    Where the tokenizer has none it is one of padding, because no model reads a row without a token.
    """
    check_texts(texts)
    rows = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    rows = [ids or [tokenizer.pad_token_id or 0] for ids in rows]
    return Encoded("text", rows, np.array([len(ids) for ids in rows], dtype=int), targets)


def check_texts(texts: Sequence[Any]) -> None:
    """`InputError` naming the first that is not a text."""
    for row, text in enumerate(texts, 1):
        if not _is_text(text):
            raise InputError(f"Example {row} is {text!r} where a text is expected.")


def _is_text(value: Any) -> bool:
    """Whether it is a string that has a UTF-8 form, as one with a lone surrogate has not."""
    return isinstance(value, str) and value == value.encode(errors="ignore").decode()


def encode_words(
    sentences: Sequence[Sequence[str]], targets: Sequence[Any], tokenizer: Any, word_shape: bool = False
) -> Encoded:
    """Token ids, uncut, and where each word's first sub-word stands; with `word_shape`, also what words look like."""
    for row, words in enumerate(sentences, 1):
        if not len(words):
            raise InputError(f"Sentence {row} has no words.")
        wrong = [word for word in words if not _is_text(word)]
        if wrong:
            raise InputError(f"Sentence {row} has {wrong[0]!r} where a word is expected.")
    coded = tokenizer([list(words) for words in sentences], is_split_into_words=True, verbose=False)
    rows = []
    for i, (ids, words) in enumerate(zip(coded["input_ids"], sentences, strict=True)):
        first: dict[int, int] = {}
        for position, word in enumerate(coded.word_ids(i)):
            if word is not None:
                first.setdefault(word, position)
        # A word without a sub-word (a lone control character, say) is read at the position of the one before it.
        for word in range(len(words)):
            first.setdefault(word, first.get(word - 1, 0))
        rows.append((ids or [tokenizer.pad_token_id or 0], [first[word] for word in range(len(words))]))
    shapes = [shapes_of(words) for words in sentences] if word_shape else None
    return Encoded("tokens", rows, np.array([len(ids) for ids, _ in rows], dtype=int), targets, shapes)


def shapes_of(words: Sequence[str]) -> np.ndarray:
    """What a sentence's words look like, uint8 [words, SHAPE_COLUMNS]."""
    looks = np.zeros((len(words) + 2, LOOKS), np.uint8)  # beyond both ends there is a word without any of them
    looks[1:-1] = [_look(word) for word in words]
    first = np.arange(len(words))[:, None] == 0
    return np.concatenate([looks[1:-1], looks[:-2], looks[2:], first], axis=1, dtype=np.uint8)


@lru_cache(maxsize=2**16)
def _look(word: str) -> tuple[bool, ...]:
    """A single capital is in upper case. Scripts without case are in none."""
    lower, upper = word.islower(), word.isupper()
    title = word.istitle() and not upper
    other = word.lower() != word.upper() and not (lower or title or upper)
    digit, letter = any(map(str.isdigit, word)), any(map(str.isalpha, word))
    return lower, title, upper, other, digit, digit and not letter, not digit and not letter


def encode_images(images: Sequence[Any], targets: Sequence[Any], size: int) -> Encoded:
    """RGB, uint8, at their own size, or shrunk at once to a short side of `size` where they are larger.

    Grey, CMYK, palette, 16-bit and transparent images become RGB. `InputError` names one that cannot be decoded.
    """
    rows = [_decode(image, f"Image {row}", size) for row, image in enumerate(images, 1)]
    return Encoded("image", rows, np.ones(len(rows), dtype=int), targets)


def name_undecodable(names: Sequence[str], images: Sequence[Any], size: int) -> None:
    """`InputError` with the name of the first image that `encode_images` could not decode, if there is one."""
    for name, image in zip(names, images, strict=True):
        _decode(image, name, size)


def encode_bags(texts: Sequence[str], targets: Sequence[Any], vectorizer: Any) -> Encoded:
    """Rows of a vectorizer's sparse matrix."""
    check_texts(texts)
    matrix = vectorizer.transform(texts).tocsr()
    return Encoded("bag", [matrix[i] for i in range(matrix.shape[0])], np.ones(matrix.shape[0], dtype=int), targets)


def order(lengths: np.ndarray, batch_size: int, rng: np.random.Generator, *, buckets: bool) -> list[np.ndarray]:
    """One epoch's batches: positions in random order, with `buckets` grouped by length among 50 batches at a time."""
    shuffled = rng.permutation(len(lengths))
    if buckets:
        pool = 50 * batch_size
        pools = [shuffled[i : i + pool] for i in range(0, len(shuffled), pool)]
        shuffled = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in pools])
    batches = [shuffled[i : i + batch_size] for i in range(0, len(shuffled), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))] if buckets else batches


def by_length(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """All positions, longest first (so that memory runs out at once or not at all), in batches.

    A batch ends early where the next row would be padded by more than a tenth of the batch's length: on 100 short texts
    that spares a quarter of a forward pass.
    """
    longest_first = np.argsort(-lengths, kind="stable")
    start = 0
    for i, position in enumerate(longest_first):
        longest = round_up(lengths[longest_first[start]])
        if i - start == batch_size or round_up(lengths[position]) < FILLED * longest:
            yield longest_first[start:i]
            start = i
    if len(longest_first):
        yield longest_first[start:]


def decode_image(image: Any) -> Image.Image:
    """A PIL image in RGB from bytes or an array; grey, CMYK, palette, 16-bit and transparent ones are converted."""
    picture = Image.open(io.BytesIO(image), formats=FORMATS) if isinstance(image, bytes) else Image.fromarray(image)
    if picture.width * picture.height > MOST_PIXELS:  # told by its first bytes; nothing is decoded yet
        raise ValueError(f"it has {picture.width} × {picture.height} pixels, more than the {MOST_PIXELS:,} allowed")
    if picture.mode == "F" or (picture.mode == "I" and picture.format == "TIFF"):
        raise ValueError("its pixels are fractions or 32-bit numbers, whose range nobody knows; save it with 8 bits")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture, dtype=np.float32) / 257).clip(0, 255).astype(np.uint8))
    if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return picture.convert("RGB")


def _decode(image: Any, name: str, size: int) -> torch.Tensor:
    try:
        picture = decode_image(image)
        scale = size / min(picture.size)
        width, height = (round(side * scale) for side in picture.size)
        if width * height > MOST_PIXELS:
            raise ValueError(
                f"resized to a short side of {size} it would have {width} × {height} pixels, more than the "
                f"{MOST_PIXELS:,} allowed"
            )
    except UnidentifiedImageError:
        raise Undecodable(f"{name} cannot be decoded: it is none of {', '.join(FORMATS)}.") from None
    except UNDECODABLE as error:
        raise Undecodable(f"{name} cannot be decoded: {error}.") from None
    if scale < 1:
        picture = picture.resize((width, height), resample=3)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _padded(rows: list[Sequence[int]], value: int, length: int) -> torch.Tensor:
    table = torch.full((len(rows), length), value, dtype=torch.long)
    for i, row in enumerate(rows):
        table[i, : len(row)] = torch.as_tensor(row, dtype=torch.long)
    return table


def _prefix_mask(lengths: list[int], width: int) -> torch.Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def round_up(length: int) -> int:
    """The length that a batch is padded to whose longest text has `length` tokens."""
    return -(-length // MULTIPLE) * MULTIPLE

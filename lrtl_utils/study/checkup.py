"""A check of a data set before anything runs on it: a page that says what it contains and what to do about it."""

import difflib
import io
import math
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lrtl_utils.data import load, splits
from lrtl_utils.data.splits import Data, Examples
from lrtl_utils.errors import counted
from lrtl_utils.study import stats

STEPS = (32, 100, 316, 1000)  # numbers of labels, evenly spaced on a logarithmic scale
STEP = 1.25  # the largest size is at least so many times the one before it
SEEDS = 5
UNEVEN = 3  # the largest class is mentioned from so many times the smallest
FEW = 10  # with fewer test examples, the scores of a class say little
NAMED = 10  # classes, at most, in a sentence: all stand in the table above it
LARGE = 1000  # pixels of a side: models read a few hundred
LONG = 128  # longer texts, in words, cost noticeably more
MISSING = {"nan", "none", "null", "n/a", "na", "<na>", "nat"}  # as other programs write an empty cell


def read(dataset: str, **reading: Any) -> Data:
    """The data set as `load.load` gives it, without its warnings, which the page repeats."""
    with warnings.catch_warnings(action="ignore"):
        return load.load(dataset, **reading)


def page(data: Data, broken: Sequence[str] | None = None) -> Iterator[str]:
    """Lines of Markdown: what was read, classes, inputs, what to look at, and what can be compared.

    The `broken` images of the data are looked for unless they are given.
    """
    kinds = f"{len(data.strata_names)} classes"
    if data.kind == "tokens":
        kinds = f"types of entity: {len({name[2:] for name in data.classes if name != 'O'})}"
    yield f"# {data.name}: {data.kind}, {kinds}"
    yield f"{len(data.train)} examples to train on, {len(data.test)} to test on ({data.split})."
    yield from (f"- {note}" for note in data.notes)
    yield from ("", "## Classes", *_classes(data))
    yield from ("", "## Inputs", *_inputs(data))
    yield from ("", "## To look at")
    concerns = [*_concerns(data, [*find_broken(data)] if broken is None else broken)]
    yield from (f"{i}. {concern}" for i, concern in enumerate(concerns, 1))
    if not concerns:
        yield "Nothing."
    yield from ("", "## What can be compared", *_prospects(data))


def steps(data: Data) -> dict[int, float]:
    """Numbers of labels worth a run, with the `data_fraction` of each; the last is the whole train split.

    A size that is nearly the whole train split is left out: it would add nothing, and make any curve look reliable.
    """
    available, least = len(data.train), len(data.strata_names)
    scale = 10 ** max(6, len(str(available)))  # fine enough that a run rounds up to the same number
    fractions = {n: math.floor(scale * n / available) / scale for n in STEPS if least <= n <= available / STEP}
    return fractions | {available: 1.0}


def counts(data: Data, examples: Examples) -> Counter[str]:
    """How many examples each class has, or, in tagged sentences, how many entities each type has."""
    if data.kind == "tokens":
        names = (data.classes[tag] for tags in examples.targets for tag in tags)
        return Counter(name[2:] for name in names if name[0] == "B")
    return Counter(data.classes[target] for target in examples.targets)


def typos(found: Counter[str]) -> Iterator[tuple[str, str]]:
    """Labels that occur once and resemble a frequent one, or look like another but for case; with the other one."""
    looks = {label: _look(label) for label in found}
    for label, count in found.items():
        others = [other for other in found if found[other] > count or (found[other] == count and other < label)]
        same = next((other for other in others if looks[other] == looks[label]), None)
        often = {other.lower(): other for other in others if found[other] >= 5}
        near = difflib.get_close_matches(label.lower(), often, n=1, cutoff=0.75) if count == 1 else []
        if same or near:
            yield label, same or often[near[0]]


def _look(name: str) -> str:
    """A name without what a person cannot see, such as a zero-width space, or hardly sees, such as its case."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in folded if unicodedata.category(character) not in ("Cc", "Cf"))


def _classes(data: Data) -> Iterator[str]:
    train, test = counts(data, data.train), counts(data, data.test)
    width = max(map(len, ["class", *(train | test)]))
    yield f"{'class':{width}} {'train':>7} {'test':>7}"
    for label in sorted(train | test, key=lambda label: -train[label]):
        yield f"{label:{width}} {train[label]:7} {test[label]:7}"
    if data.kind != "tokens":
        commonest = max(train, key=lambda label: train[label])
        yield f"Always answering {commonest!r} gives an accuracy of {test[commonest] / len(data.test):.3f}."


def _inputs(data: Data) -> Iterator[str]:
    inputs = [*data.train.inputs, *data.test.inputs]
    if data.kind == "image":
        sizes = Counter(map(_size, inputs))
        sizes.pop(None, None)  # mentioned among the concerns
        if len(sizes) == 1:
            ((width, height),) = sizes
            yield f"All images have {width} × {height} pixels."
        elif sizes:
            shown = ", ".join(f"{w} × {h} ({count})" for (w, h), count in sizes.most_common(3))
            yield f"{len(sizes)} sizes in pixels; the commonest: {shown}."
        if (longest := max((side for size in sizes for side in size), default=0)) > LARGE:
            yield f"The longest side has {longest} pixels. Each run decodes what it reads, so smaller copies save time."
        return
    words = np.array([len(x.split() if isinstance(x, str) else x) for x in inputs])
    median, most = np.quantile(words, [0.5, 0.95])
    yield f"Words: median {median:.0f}, 95% have at most {most:.0f}, the longest {words.max()}."
    if (words > LONG).any():
        long = f"More than {LONG} words are in {(words > LONG).sum()} of {len(words)} inputs"
        yield f"{long}: max_length={LONG} would bound the cost."


def _size(image: Any) -> tuple[int, int] | None:
    """Width and height in pixels; None if it is not an image."""
    from PIL import Image

    if not isinstance(image, bytes):
        return image.shape[1], image.shape[0]
    try:
        with Image.open(io.BytesIO(image)) as picture:
            return picture.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _concerns(data: Data, broken: Sequence[str]) -> Iterator[str]:
    """What a person should look at, the most serious first, with what to do about it."""
    if broken:
        named = f", such as {broken[0]}" if broken[0] else ""
        yield f"{counted(len(broken), 'image')} cannot be decoded{named}; a run fails at the first one that it reads."
    repeats = data.repeats
    if repeats["dropped"]:
        yield f"Train examples that are also in the test split, and were left out of training: {repeats['dropped']}."
    elif repeats["across"]:
        yield (
            f"Train examples that are also in the test split (ignoring case and spaces): {repeats['across']}. They "
            "make scores too high; -p drop_leaks=true leaves them out of training."
        )
    if clashing := _clashes(data):
        yield f"Inputs that occur with different labels: {clashing}. A person should decide which one is right."
    yield from (f"{sentence[0].upper()}{sentence[1:]}." for sentence in data.warned)
    train, test = counts(data, data.train), counts(data, data.test)
    for label, other in typos(train + test):
        yield f"Label {label!r} ({(train + test)[label]}) looks like {other!r} ({(train + test)[other]}); is it a typo?"
    for label in sorted(name for name in train + test if name.lower() in MISSING):
        yield (
            f"Label {label!r} ({(train + test)[label]}) looks like a missing value; where an example has no label, "
            "leave it out (in a table, leave the cell empty)."
        )
    if unseen := sorted(set(test) - set(train)):
        yield f"These classes occur only in the test split, so they cannot be learned: {_some(unseen)}."
    if repeats["train"] or repeats["test"]:
        yield f"Repeated examples: {repeats['train']} in the train split, {repeats['test']} in the test split."
    least, most = min(train.values(), default=0), max(train.values(), default=0)
    if most >= UNEVEN * least and data.kind != "tokens":
        yield (
            f"The largest class is {most / least:.0f} times as large as the smallest: `lrtl compare --metric macro_f1` "
            "ranks by a score in which every class counts the same, and -p class_weights=balanced trains for it."
        )
    if absent := sorted(label for label in train if not test[label]):
        yield f"These classes have no test example, so no score says anything about them: {_some(absent)}."
    if few := sorted(label for label in train if 0 < test[label] < FEW):
        yield f"These classes have fewer than {FEW} test examples, so their scores say little: {_some(few)}."


def _some(names: Sequence[str]) -> str:
    """The first `NAMED` of these names, and how many more there are."""
    left = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {left} more" if left > 0 else "")


def find_broken(data: Data) -> Iterator[str]:
    """Where the images are that cannot be decoded; an empty string where no place is known."""
    from lrtl_utils.models.encoding import UNDECODABLE, decode_image

    for examples in (data.train, data.test) if data.kind == "image" else ():
        for at, image in enumerate(examples.inputs):
            try:
                decode_image(image)
            except UNDECODABLE:
                yield examples.places[at] if examples.places else ""


def _clashes(data: Data) -> int:
    labels: dict[Any, set[Any]] = {}
    for examples in (data.train, data.test):
        for value, target in zip(examples.inputs, examples.targets, strict=True):
            labels.setdefault(splits.same(value), set()).add(tuple(target) if data.kind == "tokens" else int(target))
    return sum(len(found) > 1 for found in labels.values())


def _prospects(data: Data) -> Iterator[str]:
    yield f"{'labels':>7}  data_fraction"
    yield from (f"{count:7}  {fraction:g}" for count, fraction in steps(data).items())
    points = 100 * stats.smallest_difference(len(data.test), SEEDS)
    enough, fewer = (
        next(n for n in range(50, 10**6, 50) if 100 * stats.smallest_difference(n, seeds) <= 3)
        for seeds in (SEEDS, 2 * SEEDS)
    )
    unit = "sentences" if data.kind == "tokens" else "examples"
    more = f" Detecting 3 points takes {enough} test {unit}, or {fewer} with {2 * SEEDS} seeds." if points > 3 else ""
    yield (
        f"With {len(data.test)} test {unit} and {SEEDS} seeds, a comparison of two methods detects a difference of "
        f"{points:.1f} points in four of five experiments. Smaller differences mostly stay undecided.{more}"
    )
    rough = " For entity F1 it is a rough guide." if data.kind == "tokens" else ""
    yield (
        "This assumes what was measured on this project's records of texts and images: the two methods answer "
        f"{stats.DISAGREEMENT:.0%} of the test examples differently, with a correlation of {stats.RECURRING:g} between "
        f"seeds, and training adds a standard deviation of {100 * stats.TRAINING:.1f} points between seeds (see "
        f"stats.smallest_difference).{rough}"
    )

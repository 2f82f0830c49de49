"""Read a data set, named or a user's own, into examples with checked targets."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np

from lrtl_utils.config import RunConfig, derived_seed
from lrtl_utils.data import own, rows
from lrtl_utils.data.catalog import TASKS, Task, repository
from lrtl_utils.data.hub import Source, find_in_package, find_on_hub
from lrtl_utils.data.own import files, tables
from lrtl_utils.data.splits import MADE, TEST_SHARE, TOGETHER, Data, Examples, Facts, hold_out, same, stratified_order
from lrtl_utils.errors import InputError, counted, require_name
from lrtl_utils.files import absolute_path

# In a file of the hub, the types of an input and of a label; of a tagged sentence, those of a word and of a tag.
FORMS: dict[str, tuple[type, type]] = {"text": (str, int), "image": (dict, int), "tokens": (str, int)}
# A value of such a form in an error, and a list of them.
NAMED = {
    str: ("a text", "a list of texts"),
    int: ("a whole number", "a list of whole numbers"),
    dict: ("an image", "a list of images"),
}
READING = ("dataset", "text_column", "label_column", "drop_leaks")  # the parameters that decide what is read


def reading(config: RunConfig) -> dict[str, Any]:
    """The arguments that `load` takes from a configuration."""
    return {name: getattr(config, name) for name in READING}


def kind_of(dataset: str, text_column: str | None = None, label_column: str | None = None) -> str:
    """`text`, `image` or `tokens`; `InputError` if there is no such data set."""
    if _is_own(dataset):
        return _readable(own.kind_of, dataset, text_column, label_column)
    _require_no_column(dataset, text_column, label_column)
    return TASKS[dataset].kind


def _require_no_column(dataset: str, *columns: str | None) -> None:
    if any(columns):
        raise InputError(f"text_column and label_column are for your own files; {dataset!r} has its own.")


def absolute(dataset: str) -> str:
    """The absolute path of a user's own data; another name as it is."""
    return str(absolute_path(dataset)) if _is_own(dataset) and not files.on_hub(dataset) else dataset


def find(dataset: str, text_column: str | None = None, *, fetch: bool = True) -> Source:
    """The files of a data set, downloaded if necessary and `fetch` is true; `InputError` if they cannot be found."""
    if _is_own(dataset):
        return _readable(own.find, dataset, text_column, fetch=fetch)
    task = TASKS[dataset]
    if task.package:
        module, file = task.package
        return find_in_package(module, file.format(dataset))
    return find_on_hub(dataset, repository(dataset), fetch=fetch)


def load(
    dataset: str, text_column: str | None = None, label_column: str | None = None, drop_leaks: bool = False
) -> Data:
    """Read a data set; images stay encoded. `InputError` if a label is out of range.

    Warns about rows that are left out, and about train examples that are also in the test split unless `drop_leaks`.
    """
    source = find(dataset, text_column)
    _ = source.sha256  # taken before anything is read
    if _is_own(dataset):
        data = _readable(own.read, dataset, source, text_column, label_column)
    else:
        _require_no_column(dataset, text_column, label_column)
        data = _readable(_read_named, dataset, source)
    source.require_unchanged()
    for sentence in data.warned:
        warnings.warn(f"{data.name}: {sentence}.", stacklevel=2)
    _check(data)
    if not data.test:
        data = _hold_out(data, _is_own(dataset))
        if data.kind != "tokens" and not {*data.train.targets} & {*data.test.targets}:
            raise InputError(
                f"{data.name}: the test examples that are held out are of classes without another example, so nothing "
                "can be learned about them; add examples of each class, or a test split of your own."
            )
    repeats, leaking = _repeats(data)
    leaks = repeats["across"]
    if leaks and drop_leaks:
        if leaks == len(data.train):
            raise InputError(
                f"{data.name}: every train example is also in the test split, so drop_leaks=true would leave none to "
                "train on; give a test split of other examples."
            )
        kept = data.train.take(np.flatnonzero(~leaking))
        if data.kind != "tokens":
            _require_classes(data, kept)
        return replace(data, train=kept, repeats=repeats | {"dropped": leaks})
    if leaks:
        warnings.warn(
            f"{data.name}: {leaks} of {len(data.train)} train examples are also in the test split, "
            "so scores are too high; drop_leaks=true leaves them out.",
            stacklevel=2,
        )
    return replace(data, repeats=repeats)


def _require_classes(data: Data, kept: Examples) -> None:
    """`InputError` if the examples that are `kept` are of one class; warns if they lack others of the train split."""
    left = {*kept.targets}
    if lost := {*data.train.targets} - left:
        said = f"{data.name}: drop_leaks=true leaves no train example of classes such as {data.classes[min(lost)]!r}"
        if len(left) < 2:
            raise InputError(f"{said}, so only one class is left; give a test split of other examples.")
        warnings.warn(f"{said}.", stacklevel=3)


def _is_own(dataset: str) -> bool:
    """Whether `dataset` is a path; the names of the catalog come first. `InputError` if it is neither."""
    if dataset in TASKS:
        return False
    if not files.is_path(dataset):
        require_name("dataset", dataset, TASKS)
    return True


def _readable(function: Callable[..., Any], dataset: str, *others: Any, **options: Any) -> Any:
    try:
        return function(dataset, *others, **options)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{dataset} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _read_named(name: str, source: Source) -> Data:
    task = TASKS[name]
    file = source.files[0]
    if file.suffix not in _READERS:
        raise InputError(f"{file} cannot be read as data set {name!r}; a package's file must be JSON lines (.jsonl).")
    splits, classes = _READERS[file.suffix](task, source)
    return Data(name, task.kind, classes, splits["train"], splits.get("test"), source, f"taken: {task.test}")


def _repeats(data: Data) -> tuple[dict[str, int], np.ndarray]:
    """`Data.repeats` before anything is dropped, and which train examples are also in the test split, boolean [n]."""
    train, test = ([*map(same, split.inputs)] for split in (data.train, data.test))
    seen = set(test)
    leaking = np.array([value in seen for value in train], dtype=bool)
    counts = {"train": len(train) - len(set(train)), "test": len(test) - len(seen)}
    return counts | {"across": int(leaking.sum()), "dropped": 0}, leaking


def published(dataset: str) -> Facts | None:
    """What is published about a data set of the catalog, its classes taken to be of equal size; None without that."""
    row = None if _is_own(dataset) else TASKS[dataset].published
    if row is None:
        return None
    # A sentence belongs to one entity type (which has two tags), or to none.
    tagged = TASKS[dataset].kind == "tokens"
    strata = (row.n_classes + 1) // 2 if tagged else row.n_classes
    sizes = tuple(row.train // strata + (i < row.train % strata) for i in range(strata))
    classes = tuple(f"class {i}" for i in range(row.n_classes))
    lengths = _log_normal(*row.tokens) if row.tokens else ()
    return Facts(TASKS[dataset].kind, classes, sizes, row.test, lengths)


def _log_normal(mean: float, deviation: float) -> tuple[int, ...]:
    """A thousand quantiles of the log-normal distribution with that mean and standard deviation."""
    sigma = math.sqrt(math.log(1 + (deviation / mean) ** 2))
    normal = NormalDist(math.log(mean) - sigma**2 / 2, sigma)
    return tuple(round(math.exp(normal.inv_cdf((i + 0.5) / 1000))) for i in range(1000))


def _read_parquet(task: Task, source: Source) -> tuple[dict[str, Examples], tuple[str, ...]]:
    """Files `<split>-*.parquet`, as the hub has them; their metadata names the classes."""
    splits, classes = {}, task.classes
    for split, prefix in task.splits.items():
        files = [file for file in source.files if file.name.startswith(prefix)]
        if not files:
            raise InputError(f"{source.folder} has no file {prefix}*.parquet.")
        inputs, targets = [], []
        for file in files:
            columns, names = rows.read(file, (task.input, task.target))
            classes = classes or tuple(names.get(task.target, ()))
            for name, form in zip((task.input, task.target), FORMS[task.kind], strict=True):
                _require_form(f"{file}, column {name!r}", columns[name], form, task.kind == "tokens")
            inputs += [own.input_of(value, file) for value in columns[task.input]]
            targets += columns[task.target]
        if not classes:
            raise InputError(f"{files[0]} does not name the classes of its column {task.target!r}.")
        splits[split] = _examples(inputs, targets, task.kind)
    return splits, classes


def _require_form(what: str, values: Sequence[Any], form: type, listed: bool) -> None:
    """`InputError` if a value is of another type; where `listed`, each must be a list of values of that type."""
    for row, value in enumerate(values, start=1):
        parts = value if listed and value is not None else [value]
        if not isinstance(parts, list) or any(type(part) is not form for part in parts if part is not None):
            raise InputError(f"{what}, row {row} holds {value!r:.60} where {NAMED[form][listed]} is expected.")


def _read_jsonl(task: Task, source: Source) -> tuple[dict[str, Examples], tuple[str, ...]]:
    """A shipped sample: one JSON object per line, with the names of the classes."""
    columns = tables.read(source.files[0]).columns
    index = {label: i for i, label in enumerate(task.classes)}
    if task.kind == "tokens":
        targets = [[index[tag] for tag in tags] for tags in columns[task.target]]
    else:
        targets = [index[label] for label in columns[task.target]]
    return {"train": _examples(columns[task.input], targets, task.kind)}, task.classes


def _read_digits(task: Task, source: Source) -> tuple[dict[str, Examples], tuple[str, ...]]:
    """scikit-learn's digits, whose grey values are from 0 to 16, as uint8 images [8, 8]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = [image * np.uint8(15) for image in digits.images.astype(np.uint8)]
    return {"train": _examples(images, digits.target, "image")}, task.classes


_READERS = {".parquet": _read_parquet, ".jsonl": _read_jsonl, ".gz": _read_digits}


def _examples(inputs: Sequence[Any], targets: Sequence[Any], kind: str) -> Examples:
    if kind != "tokens":
        targets = np.asarray([-1 if target is None else target for target in targets], dtype=np.int64)
    return Examples(inputs, targets, np.arange(len(inputs)))


def _hold_out(data: Data, is_own: bool) -> Data:
    """The data with a part of the train split as test split."""
    strata, rng, made = data.strata(data.train), np.random.default_rng(derived_seed(0, "test split")), MADE
    if is_own:
        keys = [*map(same, data.train.inputs)]
        first: dict[Any, int] = {}
        firsts = np.array([first.setdefault(key, row) for row, key in enumerate(keys)])  # the first row with the input
        if len(first) < own.LEAST_ROWS:  # too few to hold some out; a warning will say what is in both splits
            firsts = np.arange(len(keys))
        distinct = np.unique(firsts)
        # The end of the order is held out, so that the only example of a class stays in the train split.
        tested = np.isin(firsts, distinct[hold_out(strata[distinct], TEST_SHARE, rng)[1]])
        made = MADE if len(distinct) == len(keys) else TOGETHER
    else:  # the test split that the existing records of the named data sets were made with
        order = stratified_order(strata, rng)
        tested = np.isin(np.arange(len(order)), order[: round(TEST_SHARE * len(order))])
    train, test = (data.train.take(np.flatnonzero(chosen)) for chosen in (~tested, tested))
    return replace(data, train=train, test=test, split=made)


def _check(data: Data) -> None:
    """`InputError` if an input is missing, a label is missing or none of the classes, or tags do not match words."""
    numbers = {*range(len(data.classes))}
    for split, examples in (("train", data.train), ("test", data.test)):
        pairs = zip(examples.inputs, examples.targets, strict=True) if examples else ()
        for row, (value, target) in enumerate(pairs, start=1):
            what = examples.places[row - 1] if examples.places else f"{data.name}: row {row} of the {split} split"
            if value is None:
                raise InputError(f"{what} is empty.")
            tags = target if isinstance(target, list) else [target]
            if isinstance(target, list) and len(tags) != len(value):
                found = f"{counted(len(value), 'word')} and {counted(len(tags), 'tag')}"
                raise InputError(f"{what} has {found}; each word needs one tag.")
            wrong = [tag for tag in tags if tag not in numbers]
            if wrong:
                raise InputError(
                    f"{what} has label {wrong[0]}; "
                    f"the {len(data.classes)} classes are 0 to {len(data.classes) - 1} ({', '.join(data.classes)})."
                )

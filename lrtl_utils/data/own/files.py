"""Which files at a user's path are read, and which splits they belong to, by their names and suffixes."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrtl_utils.data.hub import Repository, Source, find_on_hub
from lrtl_utils.data.own import conll, tables
from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path, is_utf8

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
CONLL = (".conll", ".conllu", ".iob", ".iob2", ".bio", ".bioes")
PERHAPS_CONLL = (".txt", ".train", ".dev", ".test", ".testa", ".testb")  # their first lines decide
HUB_ID = re.compile(r"(?!\.)([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")
REVISION = re.compile(r"[0-9a-f]{40}")
DEPTH = 4  # levels of folders that are searched
MOST_FILES = 200_000
ASIDE = "is not read: its name has no split in it"
OTHER_TYPES = "files of type"
TOO_DEEP = f"folders more than {DEPTH} levels deep"
KNOWN = f"tables ({', '.join(tables.SUFFIXES)}), CoNLL files ({', '.join(CONLL)}, …), images, or a saved data set"
ANSWERS = ".predictions.csv"  # what `predict` writes beside its input, which is no data to learn from
SPLITS = {
    "train": ("train", "training", "trainset", "traindata"),
    "test": ("test", "testing", "testb", "testset", "testdata"),
    "validation": ("validation", "valid", "val", "dev", "eval", "testa", "valset", "devset"),
}


def is_of_unread(note: str) -> bool:
    """Whether a note is about files that are not read, which may come and go."""
    return note.startswith((OTHER_TYPES, TOO_DEEP)) or note.endswith(ASIDE)


@dataclass(frozen=True)
class Layout:
    """The files of each split, and their `form`: table, conll, images, listed or saved. `noted` says what is not read.

    A table that is `listed` has the paths of images in its column `listing`, relative to its folder.
    """

    folder: Path
    form: str
    splits: dict[str, tuple[Path, ...]]
    noted: tuple[str, ...] = ()
    listing: str | None = None

    @property
    def first(self) -> Path:
        """The first file to train on, which decides what columns there are."""
        return self.splits["train" if "train" in self.splits else "all"][0]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read, sorted by path."""
        files = {file for part in self.splits.values() for file in part}
        if self.form == "saved":  # it has the features
            files |= {file.parent / "dataset_info.json" for file in files}
        if self.listing:
            files |= {self.listed(row) for file in files for row in tables.read(file).columns[self.listing] if row}
        return tuple(sorted(files))

    def listed(self, image: str) -> Path:
        """The file of an image that a table lists. `InputError` if it is missing or outside of the table's folder."""
        path = self.folder / str(image).strip()
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise InputError(f"{path} is outside {self.folder}, the folder of the table that lists it; copy it there.")
        if not path.is_file():
            raise InputError(f"There is no file {path}, which the table lists as an image.")
        return path


def is_path(dataset: str) -> bool:
    """Whether a data set is named by a path: it has a separator or a suffix, or is in the current folder.

    A relative path starts at the current folder.
    """
    if not dataset:
        return False
    return "/" in dataset or os.sep in dataset or bool(Path(dataset).suffix) or os.path.exists(absolute_path(dataset))


def on_hub(dataset: str) -> Repository | None:
    """What `org/name` or `org/name@revision` means on the hub; None for a path that exists or ends like a data file."""
    named = HUB_ID.fullmatch(dataset)
    ends_as_file = Path(dataset).suffix.lower() in (*tables.SUFFIXES, *CONLL, *PERHAPS_CONLL, *IMAGES)
    if not named or ends_as_file or os.path.exists(absolute_path(dataset)):
        return None
    if named[2] and not REVISION.fullmatch(named[2]):
        raise InputError(
            f"{dataset}: {named[2]} is not a revision; a revision is the 40 hexadecimal digits of a commit."
        )
    return Repository("dataset", *named.groups(), ("*.parquet",))


def find_own_on_hub(dataset: str, *, fetch: bool = True) -> Source | None:
    """The files of the repository that is meant; None where none is. `InputError` if they cannot be had."""
    if (repository := on_hub(dataset)) is None:
        return None
    try:
        return find_on_hub(dataset, repository, fetch=fetch)
    except InputError as error:
        absent = f"There is no file or folder {dataset} here, and as a repository of the hub it cannot be read"
        raise InputError(f"{absent}: {error}") from None


def look(dataset: str, text_column: str | None = None) -> Layout:
    """The files at a path, or of a repository of the hub, and what they are. `InputError` if they cannot be read.

    A CSV or TSV file may list images in its `text_column`, or, if that is None, in any column, unless one with a usual
    name has texts.
    """
    if "://" in dataset:
        raise InputError(f"{dataset} is an address; download the file, and give its path.")
    path = absolute_path(dataset)
    if source := find_own_on_hub(dataset):
        folders = {file.relative_to(source.folder).parts[:-1] for file in source.files}
        configurations = {"/".join(part for part in parts if split_of([part]) is None) for parts in folders}
        if len(configurations := sorted(configurations)) > 1:
            raise InputError(
                f"{dataset} has the configurations {', '.join(configurations)}; load one with `datasets`, save it with "
                "`save_to_disk`, and give the path of that folder."
            )
        return _layout(source.folder, "table", source.files)
    if not os.path.exists(path):  # of a name that is too long, `Path.exists` raises an error
        raise InputError(f"There is no file or folder {path}.")
    if path.is_file():
        form = _form(path) or ("conll" if path.suffix.lower() in CONLL else None)
        if form is None:
            raise InputError(f"{path} is not of a type that can be read; use {KNOWN}.")
        listing = _listing(path, text_column) if form == "table" else None
        return Layout(path.parent, "listed" if listing else form, {"all": (path,)}, listing=listing)
    if not path.is_dir():
        raise InputError(f"{path} is neither a file nor a folder.")
    if (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file():
        return _saved_layout(path)
    walked, too_deep = _walk(path)
    files = [file for file in walked if not file.name.endswith(ANSWERS)]
    found = {file: form for file in files if (form := _form(file))}
    # A .json file beside others describes them, unless its name has a split in it.
    data = {file: form for file, form in found.items() if file.suffix.lower() != ".json" or split_of([file.stem])}
    found = data or found or {file: "conll" for file in files if file.suffix.lower() in CONLL}
    if not found:
        raise InputError(f"{path} has no file that can be read; use {KNOWN}.")
    first: dict[str, Path] = {}
    for file, form in found.items():
        first.setdefault(form, file)
    if len(first) > 1:
        examples = " and ".join(str(file.relative_to(path)) for file in first.values())
        raise InputError(f"{path} has data of several kinds ({examples}); give the path of one file or sub-folder.")
    layout, unknown = _layout(path, *first, [*found]), Counter(file.suffix for file in files if file not in found)
    noted = [f"{OTHER_TYPES} {suffix!r} that are not read: {count}" for suffix, count in unknown.items()]
    noted += [f"{TOO_DEEP} that are not read: {too_deep}"] if too_deep else []
    return replace(layout, noted=(*layout.noted, *noted))


def _walk(folder: Path) -> tuple[list[Path], int]:
    """Regular files in order, without hidden ones, and how many folders were too deep to be looked into.

    `InputError` for a link that leaves the folder, a link to a folder, a pipe, a name that is not UTF-8, what cannot be
    read, or too many files.
    """
    root, found, too_deep = folder.resolve(), [], 0
    for here, folders, files in os.walk(folder, onerror=_unreadable):
        here = Path(here)
        deep = len(here.relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if deep == DEPTH:
            too_deep += len(folders)
            folders.clear()
        for path in sorted(here / name for name in [*folders, *files] if not name.startswith(".")):
            if not is_utf8(path):
                raise InputError(f"{os.fsencode(path)!r} has a name that is not UTF-8; rename it.")
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise InputError(f"{path} is a link that leaves {folder}; copy the file instead.")
            if path.is_dir():
                require_no_link(path)
                continue
            if not path.is_file():
                raise InputError(f"{path} is not a regular file, so {folder} cannot be read; move it elsewhere.")
            found.append(path)
            if len(found) > MOST_FILES:
                raise InputError(f"{folder} has more than {MOST_FILES:,} files; give the path of a sub-folder.")
    return found, too_deep


def _unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}.")


def require_no_link(folder: Path) -> None:
    """`InputError` for a link to a folder, which would be left out."""
    if folder.is_symlink():
        raise InputError(f"{folder} is a link to a folder, and such links are not followed; copy the folder instead.")


def _form(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if suffix in (".tsv", *CONLL, *PERHAPS_CONLL):
        with file.open("rb") as stream:
            head, more = stream.read(4096), stream.read(1)
        text = tables.decode(head if head.startswith(tables.UTF16) else head.replace(b"\0", b""), file)[0]
        if conll.looks_tagged("\n".join(tables.LINE_END.split(text)[:-1]) if more else text):
            return "conll"
    if suffix in tables.SUFFIXES:
        return "table"
    return "images" if suffix in IMAGES else None


def _listing(table: Path, text_column: str | None) -> str | None:
    """The column of a CSV or TSV file that has nothing but paths of images, the first of which exists; else None.

    If a `text_column` is given, no other column counts; else one with a usual name comes first.
    """
    if table.suffix.lower() not in (".csv", ".tsv"):
        return None
    with table.open("rb") as stream:
        head = stream.read(2**20).replace(b"\0", b"").lower()  # UTF-16 has zeros in it
    if not any(suffix.encode() in head for suffix in IMAGES):  # as in most tables, which need not be parsed here
        return None
    columns = tables.read(table).columns
    usual = text_column or tables.usual(columns, tables.INPUTS)
    if usual and not all(map(names_image, filter(None, columns.get(usual, ())))):  # texts, each with its picture
        return None
    for name in [text_column] if text_column else sorted(columns, key=lambda name: name != usual):
        named = [cell for cell in columns.get(name, ()) if cell]
        if named and all(map(names_image, named)) and is_image(named[0], table.parent):
            return name
    return None


def names_image(cell: Any) -> bool:
    """Whether the cell of a table ends like the name or address of an image, and is no text that has an address."""
    named = isinstance(cell, str) and cell.strip().lower().endswith(IMAGES)
    return named and ("://" not in cell or len(cell.split()) == 1)


def is_image(cell: Any, folder: Path) -> bool:
    """Whether the cell of a table names an image that is there."""
    return names_image(cell) and os.path.isfile(folder / cell.strip())  # not of Path, which fails at very long names


def split_of(names: Sequence[str]) -> str | None:
    """The split in the name of a file or of one of its folders, the innermost first; None if there is none."""
    for name in reversed(names):
        words = re.split(r"[^a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower())
        for split, known in SPLITS.items():
            if any(word in known for word in words):
                return split
    return None


def names_split(name: str) -> bool:
    """Whether a name is nothing but that of a split, such as `test` or `val`."""
    return any(name.lower() in known for known in SPLITS.values())


def _pairs(names: Iterable[str]) -> dict[str, str]:
    """The split of names that differ in `train` and `test` alone, such as newstrain.csv and newstest.csv."""
    lower, found = {name.lower() for name in names}, {}
    for name in lower:
        other = re.sub("train(ing)?", "test", name)
        if other != name and other in lower:
            found |= {name: "train", other: "test"}
    return found


def _layout(folder: Path, form: str, files: Sequence[Path]) -> Layout:
    """The layout of files of one form: their splits are in the names of the files and their folders."""
    names = {file: file.relative_to(folder).parts for file in files}
    if form == "images":
        # The topmost folder may be a split if it has folders of classes in it; else `train` is the name of a class.
        deep = any(len(parts) > 2 for parts in names.values())
        names = {file: parts[:1] if deep else () for file, parts in names.items()}
    named = {file: split_of(parts) for file, parts in names.items()}
    if not any(named.values()):
        pairs = _pairs("/".join(parts) for parts in names.values())
        named = {file: pairs.get("/".join(parts).lower()) for file, parts in names.items()}
    splits: dict[str, list[Path]] = {}
    for file, split in named.items():
        splits.setdefault(split or "all", []).append(file)
    if "train" not in splits:
        if len(splits) > 1:
            there = " and ".join(split for split in splits if split != "all")
            wanted = "none has train in its name; put it into the name of those to train on"
            raise InputError(f"{folder} has files for {there}, but {wanted}.")
        return Layout(folder, form, {"all": tuple(files)})
    aside = dict.fromkeys(Path(*names[file]) for file in splits.pop("all", []))
    noted = tuple(f"{name} {ASIDE}" for name in aside)
    return Layout(folder, form, {split: tuple(paths) for split, paths in splits.items()}, noted)


def _saved_layout(folder: Path) -> Layout:
    """A folder that `datasets` saved, with a sub-folder for each split; `state.json` names the data files."""
    parts, files, there = [folder], [], {*_walk(folder)[0]}
    try:
        if (folder / "dataset_dict.json").is_file():
            names = json.loads((folder / "dataset_dict.json").read_bytes())["splits"]
            parts = [folder / name for name in names]
        for part in parts:
            state = json.loads((part / "state.json").read_bytes())
            files += [part / entry["filename"] for entry in state["_data_files"]]
        for file in (*files, *(part / "dataset_info.json" for part in parts)):
            if file not in there:
                raise ValueError(f"{file} is missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is not a complete data set as `datasets` saves it: {error}.") from None
    return _layout(folder, "saved", files)

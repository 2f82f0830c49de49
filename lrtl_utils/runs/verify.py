"""Whether a folder of records is what it claims: schema, checksum, config hash and protocol, one by one and paired."""

import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import filterfalse
from pathlib import Path
from typing import Any

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load, splits
from lrtl_utils.data.own.files import is_of_unread
from lrtl_utils.errors import InputError, counted
from lrtl_utils.files import existing_folder
from lrtl_utils.runs import store
from lrtl_utils.runs.record import Completed, faults, identity, labels_asked_for, parse

FROZEN = "frozen.json"  # beside the folder that it names as confirmation
DRAWN_BY = ("data_fraction", "train_size", "shots", "seed", "validation_share", "test_limit")


@dataclass
class Report:
    """The number of records, the faults of each, and how many records each note is about."""

    records: int
    faults: dict[Path, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        """A line for each record that fails and for each note, then the sum."""
        for path, found in sorted(self.faults.items()):
            yield f"{path}: {'; '.join(found)}"
        for note, count in self.notes.items():
            yield f"note on {counted(count, 'record')}: {note}"
        yield f"{counted(self.records, 'record')}, {len(self.faults)} fail"


def verify(results: Path) -> Report:
    """Check every record below `<results>/runs`, each by itself and all against each other; nothing is changed.

    Where the data of a record is on this machine, its subset is drawn again. `InputError` if there is no such folder.
    """
    results = existing_folder(results)
    paths = sorted((results / "runs").rglob("*.json"))
    report = Report(len(paths))
    completed: dict[Path, Completed] = {}
    first: dict[str, Path] = {}
    for path in paths:
        try:
            content = store.read(path)
        except InputError as error:
            report.faults[path].append(str(error).removeprefix(f"{path} "))
            continue
        run = parse(content)
        found = [*faults(run)]
        if path != store.record_path(results, run.config.dataset, run.run_id):
            found.append(f"the record of a run on {run.config.dataset} does not belong here")
        if isinstance(run, Completed):
            completed[path] = run
            computed = identity(content)
            if computed != run.run_id:
                found.append(f"its config, data, weights and method make the run_id {computed}")
            if first.setdefault(computed, path) != path:
                found.append(f"it is of the same run as {first[computed]}")
        else:
            report.notes["a failed run has no checksums of data and weights, so its id cannot be recomputed"] += 1
        if found:
            report.faults[path] += found
        report.notes.update(store.outdated([content]))
    _paired(completed, report)
    _frozen(results, completed, report)
    _drawn_again(results, completed, report)
    return report


def _paired(completed: Mapping[Path, Completed], report: Report) -> None:
    """Runs on the same data, of one size and seed, saw the same examples; runs on the same data have one test split."""
    subset, test = {}, {}
    for path, run in completed.items():
        config, data = run.config, _source(run)
        test[path] = (*data, config.test_limit), run.data.test_size
        size = ("shots", config.shots) if config.shots else labels_asked_for(run)
        subset[path] = (*data, config.seed, size), run.data.subset_sha256
    _agree(subset, "it saw other examples than {} with the same data, size and seed", report)
    _agree(test, "its test split has another size than that of {} with the same data", report)


def _agree(values: Mapping[Path, tuple[Hashable, Hashable]], fault: str, report: Report) -> None:
    """Report each path whose value is not the most common of its group; `values` holds (group, value)."""
    groups = defaultdict(Counter)
    for group, value in values.values():
        groups[group][value] += 1
    for path, (group, value) in values.items():
        commonest, count = groups[group].most_common(1)[0]
        if value != commonest:
            report.faults[path].append(fault.format(counted(count, "record")))


def _frozen(results: Path, completed: Mapping[Path, Completed], report: Report) -> None:
    """Runs of a confirmation are of the methods' frozen versions, and began after the freeze."""
    file = results.parent / FROZEN
    if not file.is_file():
        return
    try:
        frozen = json.loads(file.read_text())
        named, since = frozen["confirmation"], datetime.fromisoformat(frozen["frozen_at"]).astimezone()
        versions = dict(frozen["versions"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} does not say what was frozen: {error!r}.") from None
    if named != results.name:
        return
    for path, run in completed.items():
        method, version = run.config.method, run.environment.method_version
        due = versions.get(method, version)
        if version != due:
            report.faults[path].append(f"it is of version {version} of {method}, and version {due} was frozen")
        if run.started_at < since:
            report.faults[path].append(f"it began before the recipe was frozen, at {frozen['frozen_at']}")


def _drawn_again(results: Path, completed: Mapping[Path, Completed], report: Report) -> None:
    """Draw the subsets again, from the data on this machine; those that are sized in the same way nest."""
    data, drawn = {}, {}
    for path, run in sorted(completed.items(), key=lambda each: (str(_source(each[1])), each[0])):
        config, claimed, source = run.config, run.data, _source(run)
        if source not in data:
            here = config.model_copy(update={"dataset": store.place(results, config.dataset)})
            data = {source: _at_hand(here, claimed.source.sha256)}  # one at a time: some are large
        if data[source] is None:
            report.notes[f"{config.dataset} is not on this machine, so nesting was checked only by hashes"] += 1
            continue
        draw = (source, *(getattr(config, name) for name in DRAWN_BY))
        if draw not in drawn:
            drawn[draw] = _draw(data[source], config)
        for name, value in drawn[draw].items():
            notes_more = name == "notes" and {*filterfalse(is_of_unread, claimed.notes)} <= {*value}  # a later version
            if not notes_more and getattr(claimed, name, None) not in (None, value):  # earlier versions record less
                report.faults[path].append(f"data: {name} is {getattr(claimed, name)}, but {value} when drawn again")


def _source(run: Any) -> tuple[Any, ...]:
    """What was read for a record."""
    return (*load.reading(run.config).items(), run.data.source.sha256)


def _at_hand(config: RunConfig, sha256: str) -> splits.Data | None:
    """The data set, if it is here and is the one with that checksum."""
    try:
        here = load.find(config.dataset, config.text_column, fetch=False).sha256 == sha256
        with warnings.catch_warnings(action="ignore"):  # the runs have shown them
            return load.load(**load.reading(config)) if here else None
    except (InputError, OSError):  # they are not here, or only somebody else may read them
        return None


def _draw(data: splits.Data, config: RunConfig) -> dict[str, Any]:
    """What a record says about the data, except its source."""
    try:
        train, validation = splits.labelled(data, config)
    except InputError as error:
        return {"subset_sha256": f"refused: {error}"}
    described = splits.describe(data, train, validation, splits.test_examples(data, config))
    return {name: value for name, value in described.items() if name != "source"}

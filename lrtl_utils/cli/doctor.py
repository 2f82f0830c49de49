"""What this machine has, and where each data set and model comes from."""

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from lrtl_utils.config import resolve_device
from lrtl_utils.data import catalog, hub, load
from lrtl_utils.errors import Absent, InputError
from lrtl_utils.models import catalog as models

PACKAGES = ("torch", "transformers", "datasets", "timm", "accelerate", "papermill", "scikit-learn")


def report() -> Iterator[str]:
    """Device, cores and versions; then one line for each data set and model: its source, or what is missing."""
    import psutil

    from lrtl_utils.sweep.engines import cores

    yield f"device: {resolve_device('auto')}"
    yield f"cores: {cores()}, memory: {psutil.virtual_memory().total / 2**30:.0f} GiB"
    yield f"versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}"
    yield f"mirror: {hub.mirror()}{'' if hub.mirror().is_dir() else ' (absent)'}"
    yield f"hub: {'reachable' if hub.reachable() else 'not reachable'} at {hub.endpoint()}"
    on_hub = repositories()
    for what, find, names in (("dataset", load.find, catalog.TASKS), ("model", models.find, models.MODELS)):
        yield from (f"{what} {name}: {_origin(find, name, on_hub[name])}" for name in names)


def _origin(find: Callable[..., hub.Source | None], name: str, repository: hub.Repository | None) -> str:
    try:
        source = find(name, fetch=False)
    except InputError as error:
        fetched = isinstance(error, Absent) and repository and hub.reachable()
        return "not here; it is fetched from the hub when it is first used" if fetched else f"missing: {error}"
    return f"{source.kind}, {source.id}, {source.folder}" if source else "nothing to fetch"


def check(dataset: str, labels: bool | None, **reading: str | None) -> Iterator[str]:
    """The page of a data set; then the labels that may be wrong, if asked for, or by default where there are few."""
    from lrtl_utils.study import checkup

    data = checkup.read(dataset, **reading)
    yield from checkup.page(data)
    if labels is False or (labels is None and data.kind == "tokens"):
        return
    from lrtl_utils.study.labels import FEW, page

    if labels is None and len(data.train) + len(data.test) > FEW:
        yield "With --labels, a model also reads the examples and looks for wrong labels."
        return
    try:
        yield from page(dataset, **reading)
    except InputError as error:  # the page above has been worth its while
        yield f"The labels cannot be checked: {error}"


def repositories(
    datasets: Iterable[str] = catalog.TASKS, model_names: Iterable[str] = models.MODELS
) -> dict[str, hub.Repository | None]:
    """The hub's repository of each name; None for what is installed. `InputError` if a name is unknown."""
    found = {name: catalog.repository(name) for name in datasets}
    return found | {name: models.repository(name) for name in model_names}


def mirror_report(mirror: Path) -> tuple[list[str], bool]:
    """One line for each repository of a mirror's manifest, or for each of its faults; and whether it has no fault."""
    if not mirror.is_dir():
        raise InputError(
            f"There is no mirror at {mirror}. Set LRTL_MIRROR to its folder, or make one with `lrtl fetch`."
        )
    pinned = {one.place: one.revision for one in repositories().values() if one}
    lines, whole = [], True
    for place, locked in hub.read_manifest(mirror).repositories.items():
        faults = list(hub.faults(mirror / place, locked))
        if pinned.get(place) not in (None, locked.revision):
            faults.append(f"{mirror / place} is at revision {locked.revision}, but {pinned[place]} is needed")
        lines += faults or [f"{place}: {len(locked.files)} files, complete, at {locked.revision}"]
        whole = whole and not faults
    if not lines:
        lines = [f"{mirror} has no manifest: its files are used, and their checksums are recorded but not enforced."]
    return lines, whole

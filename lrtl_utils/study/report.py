"""A static site of a folder of results: the four answers, every run with a page of its own, the summary notebooks."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lrtl_utils.errors import InputError
from lrtl_utils.files import absolute_path, data_name, results_folder, write_text
from lrtl_utils.models.catalog import MODELS
from lrtl_utils.runs import notebook as notebooks
from lrtl_utils.runs import store as runs
from lrtl_utils.study import answers as findings
from lrtl_utils.study import pages, sentences
from lrtl_utils.study import tables as summaries

if TYPE_CHECKING:
    import pandas as pd

# Each answer with its picture, what that shows, and the notebook that makes it.
SECTIONS = (
    (findings.which, "accuracy_vs_data", "Test score against labelled examples", "20_accuracy_vs_data"),
    (
        findings.how_much,
        "labels_needed",
        "Labels needed for 95 % of the score at full data; hollow: not to be relied on",
        "20_accuracy_vs_data",
    ),
    (findings.cost, "accuracy_vs_flops", "Test score against FLOPs; rings: Pareto front", "21_accuracy_vs_cost"),
    (
        findings.real,
        "differences",
        "Paired differences to conventional, with 95 % intervals, from few labels at the top to many",
        "23_method_comparison",
    ),
)
COLUMNS = ("labels", "seed", "score", "device seconds", "FLOPs", "peak MiB")  # of the table of runs, its numbers
CURVES = ("loss", "validation_loss", "validation_score")
SAID = ["method", "variant", "variants", "compared", "first"]  # columns of an answer's table that its sentences say
PACKED = ("hits", "counts", "per_class", "confusion")  # no value of one line


def write(results: str | Path) -> Path:
    """Write `<results>/report/` and return its index.html.

    First, summary notebooks that are older than a change of the records are executed. `InputError` if one of them
    fails, or if the folder is a symbolic link.
    """
    results = results_folder(results)
    folder = results / "report"
    for part in (folder, folder / "runs", folder / "notebooks"):
        if part.is_symlink():
            raise InputError(f"{part} is a symbolic link; the report is written into a folder of its own.")
    completed, failed = runs.load(results), runs.load(results, "failed")
    sources = _sources(results)
    frame = summaries.read(sources) if len(completed) else summaries.reported(completed)
    shown = [(results, record) for part in (completed, failed) for record in part["record"]]
    if len(frame):
        others = frame[frame["folder"] > 0]
        shown += [(results_folder(sources[at]), r) for at, r in zip(others["folder"], others["record"], strict=True)]
    written = {folder / "runs" / f"{record['run_id']}.html": _run(record, at, folder) for at, record in shown}
    titles = {}
    for path in _executed(results) if len(completed) else []:
        titles[path.stem], page = _notebook(path)
        written[folder / "notebooks" / f"{path.stem}.html"] = page
    written[folder / "index.html"] = _index(results, frame, [record for _, record in shown], titles)
    for old in {*folder.glob("runs/*.html"), *folder.glob("notebooks/*.html")} - set(written):
        old.unlink()
    for path, page in written.items():
        write_text(path, page)
    return folder / "index.html"


def _sources(results: Path) -> list[str | Path]:
    """The folders that the summary notebooks read for this one: it alone, but for the committed study, theirs."""
    notebook = notebooks.notebook_path("accuracy_vs_data")
    named = summaries.folders(notebooks.parameters_of(notebook)["results"])
    committed = [absolute_path(notebook.parent / folder) for folder in named]
    return committed if committed[0] == results else [results]


def _executed(results: Path) -> list[Path]:
    """The summary notebooks with their outputs: those of the study as committed, others executed where needed."""
    originals = notebooks.summary_notebooks()
    if _sources(results) != [results]:
        return originals
    written = [*results.glob("runs/*/*.json"), *results.glob("runs/*")]  # a folder tells that a record went away
    newest = max(path.stat().st_mtime for path in written)
    paths = []
    for original in originals:
        path = results / "executed" / original.name
        if not (path.is_file() and path.stat().st_mtime >= newest and _is_whole(path)):
            reason = notebooks.execute(original, {"results": str(results)}, path)
            if reason:
                raise InputError(f"{original.name}: {reason}")
        paths.append(path)
    return paths


def _is_whole(path: Path) -> bool:
    """Whether a notebook was executed to its end, which papermill says of those whose kernel died too."""
    import nbformat

    try:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    except ValueError:  # cut short
        return False
    return all(cell.execution_count and "error" not in [o.output_type for o in cell.outputs] for cell in cells)


def _notebook(path: Path) -> tuple[str, str]:
    """Title and page of an executed notebook."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
    return title, pages.render("notebook.html", title=title, body=pages.notebook_body(notebook))


def _index(
    results: Path, frame: "pd.DataFrame", records: Sequence[Mapping[str, Any]], titles: Mapping[str, str]
) -> str:
    names = ("dataset", "model", "method", "status")
    lines = dict(zip(frame["run_id"], frame["line"], strict=True)) if len(frame) else {}
    rows = [_row(record) | {"method": lines.get(record["run_id"], record["config"]["method"])} for record in records]
    rows.sort(key=lambda row: [row[name] for name in names])
    return pages.render(
        "index.html",
        name=results.name,
        place=os.path.relpath(results) if results.is_relative_to(Path.cwd()) else str(results),
        scope=list(_scope(records)),
        machines=runs.machines(frame["record"]),
        notebooks=titles,
        answers=[_answer(*section, results, frame, titles) for section in SECTIONS] if len(frame) else [],
        filters={name: sorted({row[name] for row in rows}) for name in names},
        columns=COLUMNS,
        rows=rows,
    )


def _scope(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the numbers are of, and of what they are not: a small model's must not be read as a large one's."""
    done = [record for record in records if record["status"] == "completed"]
    devices = sorted({record["environment"]["device"] for record in done})
    lost = f", {len(records) - len(done)} failed" if len(done) < len(records) else ""
    on = f", on {'; '.join(devices)}" if devices else ""
    yield f"{sentences.counted(len(done), 'completed run')}{lost}{on}."
    sizes = {r["config"]["model"]: r["model"]["parameters"] for r in done if r["config"]["model"] in MODELS}
    if not sizes:
        return
    named = [f"{name} ({size / 1e6:.3g} M parameters)" for name, size in sorted(sizes.items())]
    only = "CPU runs of " if all(device.startswith("cpu") for device in devices) else "Runs of "
    yield f"{only}{', '.join(named)}."
    absent = [name for name, row in MODELS.items() if row.library != "ours" and not row.package and name not in sizes]
    if absent:
        yield f"Not measured here: {', '.join(absent)}. No figure on these pages may be read as one of theirs."


def _answer(
    answer: Any,
    picture: str,
    caption: str,
    notebook: str,
    results: Path,
    frame: "pd.DataFrame",
    titles: Mapping[str, str],
) -> dict[str, Any]:
    finding = answer(frame)
    table = finding.table.drop(columns=SAID, errors="ignore")
    table = table[[name for name in table if set(map(pages.value, table[name])) != {pages.NOTHING}]]
    return {
        "question": finding.question,
        "headline": finding.headline,
        "each": finding.each,
        "picture": pages.picture(results / "figures" / f"{picture}.png"),
        "caption": caption,
        "notebook": notebook if notebook in titles else None,
        "columns": [name.replace("_", " ") for name in table],
        "rows": table.to_numpy().tolist(),
    }


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the table of runs, but for its method: settings of one are told apart by all runs together."""
    config, cost, data, metrics = (record[name] or {} for name in ("config", "cost", "data", "metrics"))
    labels = data.get("train_size", 0) + data.get("validation_size", 0) or None
    score = metrics.get("f1" if "counts" in metrics else "accuracy")
    spent = [cost.get(name) for name in ("device_seconds", "flops", "peak_memory_mib")]
    numbers = [(one, pages.value(one)) for one in (labels, config["seed"], score, *spent)]
    if score is not None:
        numbers[2] = score, f"{score:.3f}"
    row = {name: record[name] for name in ("run_id", "status")} | {"model": config["model"], "numbers": numbers}
    return row | {"dataset": data_name(config["dataset"])}


def _run(record: Mapping[str, Any], results: Path, folder: Path) -> str:
    """The page of one run, below `folder`; its record and executed notebook lie below `results`."""
    config, data, metrics = record["config"], record["data"] or {}, record["metrics"] or {}
    dataset, labels, asked = data_name(config["dataset"]), data.get("labels", []), config["asked"]
    files = {
        "record": runs.record_path(results, dataset, record["run_id"]),
        "executed notebook, on this machine": results / "executed" / dataset / f"{record['run_id']}.ipynb",
    }
    lines = {name: [point.get(name) for point in record["curve"]] for name in CURVES}
    knobs = {name: one for name, one in config.items() if name != "asked"}
    return pages.render(
        "run.html",
        title=runs.in_words(config),
        record=record,
        links={name: quote(os.path.relpath(file, folder / "runs")) for name, file in files.items() if file.is_file()},
        scores={name: one for name, one in metrics.items() if name not in PACKED},
        validation={name: one for name, one in (record["validation"] or {}).items() if name not in PACKED},
        per_class=metrics.get("per_class") or {},
        confusion=list(zip(labels, metrics.get("confusion") or [], strict=False)),
        curves={name: line for name, line in lines.items() if len(line) > 1 and line[-1] is not None},
        points=[pages.flat(point) for point in record["curve"]],
        sections={name: record[name] or {} for name in ("data", "model", "cost", "environment")},
        config=[(k, one, k in asked, asked.get(k)) for k, one in knobs.items() if one is not None or k in asked],
        unset=[name for name, one in knobs.items() if one is None and name not in asked],
    )

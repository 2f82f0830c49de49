"""A static site for a folder of results: the four answers, a page for every run, and the summary notebooks.

Each page is one file: style, script and pictures are in it, and it loads nothing else. All values are escaped, and the
page's policy allows no script but ours, known by its hash, so markup in a user's texts could not run.
"""

import base64
import hashlib
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import nbformat
import pandas as pd

from lrtl_utils.config import NO_MODEL
from lrtl_utils.errors import InputError, counted
from lrtl_utils.files import absolute_path, data_name, from_here, write_text
from lrtl_utils.models.catalog import MODELS
from lrtl_utils.runs import store
from lrtl_utils.runs.notebook import notebook_path, parameters_of, summarise, summary_notebooks
from lrtl_utils.runs.record import in_words
from lrtl_utils.study import advice, answers, tables

if TYPE_CHECKING:
    from jinja2 import Environment

DATA, COST, REAL = "20_accuracy_vs_data", "21_accuracy_vs_cost", "23_method_comparison"
# Each answer with its figure, the caption, and the notebook that makes it.
SECTIONS = (
    (answers.which, "accuracy_vs_data", "Test {score} against labelled examples", DATA),
    (answers.how_much, "labels_needed", "Labels needed for 95% of the highest {score} at the largest size", DATA),
    (answers.cost, "accuracy_vs_seconds", "Test {score} against device seconds", COST),
    (answers.real, "differences", "Paired differences in {score} from conventional, tuned if any was, in points", REAL),
)
COLUMNS = ("labels", "seed", "score", "device seconds", "FLOPs", "peak MiB")  # of numbers, in the table of runs
# Columns that the sentences of an answer repeat.
IN_WORDS = ["method", "variant", "variants", "compared", "undecided", "first"]
PACKED = {*tables.PACKED, "per_class", "confusion"}  # not a value of one line
TEMPLATES = Path(__file__).parent / "templates"
NOTHING = "–"
TAGS = {"a", "blockquote", "br", "code", "div", "em", "h1", "h2", "h3", "h4", "hr", "li", "ol", "p", "pre", "span"}
TAGS |= {"strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"}


def write(results: str | Path, metric: str | None = None, each: Callable[..., Iterable[Any]] = map) -> Path:
    """Write `<results>/report/`, with scores by the metric as `tables.records` has them, and return its index.html.

    Summary notebooks that are older than the records, or by another metric, are executed first. `each` is used like
    `map` to make the pages, which do not depend on each other; one that works in several processes is faster.
    `InputError` if a notebook fails, or if the folder is a symbolic link.
    """
    results = absolute_path(results)
    folder = results / "report"
    for part in (folder, folder / "runs", folder / "notebooks"):
        if part.is_symlink():
            raise InputError(f"{part} is a symbolic link; the report is written into a folder of its own.")
    completed, failed = (tables.records(results, status, metric) for status in ("completed", "failed"))
    folders = sources(results)
    frame = tables.together([completed, *(tables.records(one, "completed", metric) for one in folders[1:])])
    others = frame[frame["folder"] > 0]
    shown = [(results, record) for part in (completed, failed) for record in part["record"]]
    shown += [(folders[at], record) for at, record in zip(others["folder"], others["record"], strict=True)]
    notebooks = _executed(results, metric) if len(completed) else []
    titles = dict(each(partial(_write_notebook, folder), notebooks))
    runs = each(partial(_write_run, folder), *zip(*shown, strict=True)) if shown else []
    records = [record for _, record in shown]
    _write(folder / "index.html", _index(results, frame, records, titles, metric))
    written = {*runs, *(folder / "notebooks" / f"{name}.html" for name in titles)}
    for old in {*folder.glob("runs/*.html"), *folder.glob("notebooks/*.html")} - written:
        old.unlink()
    return folder / "index.html"


def _write(path: Path, page: str) -> Path:
    write_text(path, page, durable=False)  # a disk syncs a few hundred pages a second
    return path


def sources(results: Path) -> list[Path]:
    """The folders that the summary notebooks read: this one, except for the committed study, which names its own."""
    committed = committed_sources(notebook_path("accuracy_vs_data").parent)
    return committed if committed[0] == results else [results]


def committed_sources(folder: Path) -> list[Path]:
    """The folders of results that the notebooks in this folder name."""
    named = parameters_of(folder / f"{SECTIONS[0][-1]}.ipynb")["results"]
    return [absolute_path(folder / source) for source in tables.folders(named)]


def _executed(results: Path, metric: str | None) -> list[Path]:
    """The summary notebooks with their outputs: the committed ones for the study, else executed where needed."""
    originals = summary_notebooks()
    if sources(results) != [results]:
        return originals
    written = [*results.glob("runs/*/*.json"), *results.glob("runs/*")]  # a folder changes when a record is deleted
    newest = max(path.lstat().st_mtime for path in written)  # a link may lead nowhere
    paths = []
    for original in originals:
        path = results / "executed" / original.name
        is_new = path.is_file() and path.stat().st_mtime >= max(newest, original.stat().st_mtime)
        as_asked = is_new and _is_whole(path, metric)
        if not as_asked and (reason := summarise(results, metric, original)):
            raise InputError(f"{original.name}: {reason}")
        paths.append(path)
    return paths


def _is_whole(path: Path, metric: str | None) -> bool:
    """Whether a notebook was executed to its end, by that metric; papermill says so even if the kernel died."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except ValueError:  # cut short
        return False
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    return given.get("metric", metric) == metric and all(
        cell.execution_count and "error" not in [o.output_type for o in cell.outputs] for cell in cells
    )


def _write_notebook(folder: Path, path: Path) -> tuple[str, str]:
    """Write the page of an executed notebook; its name and its title."""
    notebook = nbformat.read(path, as_version=4)
    title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
    page = render("notebook.html", title=title, body=notebook_body(notebook))
    _write(folder / "notebooks" / f"{path.stem}.html", page)
    return path.stem, title


def _index(
    results: Path,
    frame: pd.DataFrame,
    records: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
    metric: str | None,
) -> str:
    names, compared = ("dataset", "model", "method", "status"), _compared(frame)
    rows = [_row(record, metric, compared) for record in records]
    rows.sort(key=lambda row: [row[name] for name in names])
    return render(
        "index.html",
        name=results.name,
        place=shlex.quote(from_here(results)),
        scope=list(_scope(records)),
        machines=store.machines(frame["record"]),
        notebooks=titles,
        advice=[*advice.lines(frame, results)] if frame["dataset"].nunique() == 1 else [],
        answers=[_answer(section, results, frame) for section in SECTIONS] if len(frame) else [],
        filters={name: sorted({row[name] for row in rows}) for name in names},
        judged=tables.metrics_of(frame),
        columns=COLUMNS,
        rows=rows,
    )


def _compared(frame: pd.DataFrame) -> dict[str, dict[str, str]]:
    """By run: data set, model and configuration, and that configuration's mean score at its number of labels."""
    means = frame[["run_id", *tables.KEYS]].merge(tables.summarise(frame), on=tables.KEYS)
    return {
        row.run_id: {
            "dataset": row.dataset,
            "model": row.model,
            "method": row.configuration,
            "mean": f"mean {row.score:.3f}{answers.between(row.low, row.high)} of {counted(row.seeds, 'seed')}",
        }
        for row in means.itertuples()
    }


def _scope(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Which models and devices the numbers are from, and which not: a small model must not be taken for a large one."""
    done = [record for record in records if record["status"] == "completed"]
    devices = sorted({record["environment"]["device"] for record in done})
    lost = f", {len(records) - len(done)} failed" if len(done) < len(records) else ""
    on = f", on {'; '.join(devices)}" if devices else ""
    yield f"{counted(len(done), 'completed run')}{lost}{on}."
    models = ((record["config"]["model"], record["model"]) for record in done)
    sizes = {data_name(name): facts["parameters"] for name, facts in models if name != NO_MODEL}
    if not sizes:
        return
    named = [f"{name} ({answers.short(size / 1e6)} M parameters)" for name, size in sorted(sizes.items())]
    only = "CPU runs of " if all(device.startswith("cpu") for device in devices) else "Runs of "
    yield f"{only}{', '.join(named)}."
    absent = [name for name, row in MODELS.items() if row.library != "ours" and not row.package and name not in sizes]
    if absent:
        yield f"These models were not measured here, so no number here is about them: {', '.join(absent)}."


def _answer(section: tuple[Any, ...], results: Path, frame: pd.DataFrame) -> dict[str, Any]:
    ask, name, caption, notebook = section
    answer, picture = ask(frame), results / "figures" / f"{name}.png"
    table = tables.shown(answer.table.drop(columns=IN_WORDS, errors="ignore"))
    table = table[[name for name in table if set(map(value, table[name])) != {NOTHING}]]
    return answer._asdict() | {
        "picture": png_url(picture.read_bytes()) if picture.is_file() else None,
        "caption": caption.format(score=tables.metrics_of(frame)),
        "notebook": notebook,
        "columns": [name.replace("_", " ") for name in table],
        "rows": table.to_numpy().tolist(),
    }


def _row(record: Mapping[str, Any], metric: str | None, compared: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    """A row of the table of runs; one that is not among those `_compared` has its method's name, and no mean."""
    run = tables.row_of(record, metric)
    costs = [run.get(f"cost.{name}") for name in ("device_seconds", "flops", "peak_memory_mib")]
    numbers = [(one, value(one)) for one in (run["n_labels"] or None, run["seed"], run["score"], *costs)]
    if run["score"] is not None:
        numbers[2] = run["score"], f"{run['score']:.3f}"
    own = {name: run[name] for name in ("run_id", "status", "dataset", "model", "method")}
    return own | {"mean": "", "numbers": numbers} | compared.get(run["run_id"], {})


def _write_run(folder: Path, results: Path, record: Mapping[str, Any]) -> Path:
    """Write the page of one run, below `folder`; its record and executed notebook are below `results`."""
    config, data, metrics = record["config"], record["data"] or {}, record["metrics"] or {}
    dataset, classes, asked = data_name(config["dataset"]), data.get("labels", []), config["asked"]
    files = {
        "record": store.record_path(results, dataset, record["run_id"]),
        "executed notebook, on this machine": results / "executed" / dataset / f"{record['run_id']}.ipynb",
    }
    curves = {name: [point.get(name) for point in record["curve"]] for name in tables.CURVE}
    knobs = {name: one for name, one in config.items() if name != "asked"}
    page = render(
        "run.html",
        title=in_words(config),
        record=record,
        links={name: quote(os.path.relpath(file, folder / "runs")) for name, file in files.items() if file.is_file()},
        scores={name: one for name, one in metrics.items() if name not in PACKED},
        validation={name: one for name, one in (record["validation"] or {}).items() if name not in PACKED},
        per_class=metrics.get("per_class") or {},
        confusion=list(zip(classes, metrics.get("confusion") or [], strict=False)),
        curves={name: curve for name, curve in curves.items() if len(curve) > 1 and curve[-1] is not None},
        points=[flat(point) for point in record["curve"]],
        sections={name: record[name] or {} for name in ("data", "model", "cost", "environment")},
        config=[(k, one, k in asked, asked.get(k)) for k, one in knobs.items() if one is not None or k in asked],
        unset=[name for name, one in knobs.items() if one is None and name not in asked],
    )
    return _write(folder / "runs" / f"{record['run_id']}.html", page)


# HTML


def render(template: str, **values: Any) -> str:
    """A template of the package filled with these values, escaped."""
    return _environment().get_template(template).render(values)


def png_url(content: bytes) -> str:
    """The bytes of a PNG file as a URL that contains them."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def notebook_body(notebook: nbformat.NotebookNode) -> str:
    """An executed notebook as sanitised HTML without a head: prose, folded code and outputs, but no parameters.

    The alternative text of a picture is the heading above it.
    """
    from nbconvert import HTMLExporter  # slow
    from traitlets.config import Config

    heading = ""
    for cell in notebook.cells:
        found = re.findall(r"^#+ (.+)", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
        heading = found[-1] if found else heading
        cell.metadata["alt"] = heading
    options = {
        "TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": ("parameters", "injected-parameters")},
        "CoalesceStreamsPreprocessor": {"enabled": True},  # printed text may arrive in several pieces
    }
    exporter = HTMLExporter(
        config=Config(options),
        extra_template_basedirs=[str(TEMPLATES)],
        template_name="notebook",
        filters={"clean_html": sanitised},
        sanitize_html=True,
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    return exporter.from_notebook_node(notebook)[0]


def sanitised(html: str) -> str:
    """HTML with the tags of prose, code and tables only; nbconvert's own filter removes headings."""
    import bleach

    html = re.sub(r"<style scoped>.*?</style>", "", str(html), flags=re.DOTALL)  # in pandas' tables
    allowed = {"*": ["class", "id"], "a": ["href"]}
    return bleach.clean(html, tags=TAGS, attributes=allowed, protocols={"https"}, strip=True)


def value(given: Any) -> str:
    """A value as a person reads it: four digits, commas at thousands and between items, a dash for nothing."""
    if isinstance(given, bool | str):
        return str(given) or NOTHING
    if given is None or (isinstance(given, Real) and math.isnan(given)):
        return NOTHING
    if isinstance(given, Real):
        return _number(given)
    if isinstance(given, Sequence):
        return ", ".join(map(value, given)) or NOTHING
    return str(given)


def _number(given: Real) -> str:
    size = abs(given)
    if size >= 1e9 or 0 < size < 1e-4:
        return f"{given:.3g}"
    return f"{given:,.0f}" if size >= 1e4 or float(given).is_integer() else f"{given:.4g}"


def flat(given: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """Names in words, with their values; a nested one is named like `source, id`."""
    found = {}
    for name, one in given.items():
        named = f"{inside}{name}".replace("_", " ")
        found |= flat(one, f"{named}, ") if isinstance(one, Mapping) else {named: one}
    return found


def polyline(values: Sequence[Any], width: int, height: int) -> str:
    """The SVG points of a line through the finite values, with 0 at the bottom and the largest at the top."""
    points = [(i, one) for i, one in enumerate(values) if isinstance(one, Real) and math.isfinite(one)]
    top = max((one for _, one in points), default=0) or 1
    step = width / max(len(values) - 1, 1)
    return " ".join(f"{i * step:.1f},{height * (1 - max(one, 0) / top):.1f}" for i, one in points)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    style, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.globals |= {"style": style, "script": script, "script_sha256": digest, "polyline": polyline, "flat": flat}
    made.filters |= {"value": value}
    return made

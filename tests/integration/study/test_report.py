"""The static site: in real Chromium where that is installed, and as files everywhere."""

import html
import os
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
from complete import call
from hostile_site import IMAGE, SCRIPT, of
from nbformat import v4
from synthetic import MODEL, outcomes, write_run, write_study

from lrtl_utils.config import RunConfig
from lrtl_utils.errors import InputError
from lrtl_utils.runs import store
from lrtl_utils.runs.notebook import summary_notebooks
from lrtl_utils.study import answers, report, tables
from lrtl_utils.study.report import SECTIONS

pytest_plugins = ["hostile_site"]


class Elements(HTMLParser):
    """Every element of a page with its attributes, its words, and the elements that were left open."""

    EMPTY = ("meta", "img", "br", "hr", "input")

    def __init__(self, page):
        super().__init__()
        self.found, self.words, self.open = [], "", []
        self.feed(page if isinstance(page, str) else page.read_text())

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "runs", "notebooks"])
def test_pages_are_whole_load_nothing_and_their_links_lead_somewhere(site, kind):
    assert of(site, kind)
    for page in of(site, kind):
        parsed = Elements(page)
        assert parsed.open == []
        assert sum(tag == "script" for tag, _ in parsed.found) == (page.name == "index.html")
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-" in page.read_text()
        for tag, attributes in parsed.found:
            assert not [name for name in attributes if name.startswith("on")], (page, tag)
            assert tag not in ("link", "iframe", "object", "embed", "base")
            assert attributes.get("src", "data:").startswith("data:image/png;base64,") or "src" not in attributes
            link = urlsplit(attributes.get("href", "#"))
            assert not link.scheme, (page, link)
            assert not link.path or (page.parent / unquote(link.path)).is_file(), (page, link)


@pytest.mark.slow
def test_the_answers_come_first_from_the_same_numbers(site):
    frame = tables.read(site.parent)
    words = Elements(site / "index.html").words
    places = [
        words.index(stated) for answer, *_ in SECTIONS for stated in [answer(frame).headline, *answer(frame).each]
    ]
    assert places == sorted(places)
    assert places[-1] < words.index("Every run")
    images = [attributes for tag, attributes in Elements(site / "index.html").found if tag == "img"]
    assert {image["alt"] for image in images} >= {"Test accuracy against labelled examples"}


def test_what_to_do_now_is_on_the_page_of_one_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_executed", lambda *_: [])
    write_study(tmp_path, datasets=["sst2"], sizes=[32], names=["full", "progressive"])
    words = Elements(report.write(tmp_path)).words
    assert words.index("What to do now") < words.index("lrtl run text_classification -p dataset=sst2 ")
    assert words.index("lrtl suggest sst2 --unlabelled POOL -n 50") < words.index(
        answers.which(tables.read(tmp_path)).question
    )
    write_study(tmp_path, datasets=["ag_news"], sizes=[32], names=["full", "progressive"])
    assert "What to do now" not in Elements(report.write(tmp_path)).words


@pytest.mark.slow
def test_a_small_model_is_not_taken_for_a_large_one(site):
    words = Elements(site / "index.html").words
    assert "CPU runs of simple_nn" in words
    assert (
        "so no number here is about them: bert_base, roberta_base, distilbert, bert_crf, resnet50, efficientnet_b0."
        in words
    )


@pytest.mark.slow
def test_a_run_is_one_click_from_its_config_curve_record_and_notebook(site):
    (executed,) = (site.parent / "executed").glob("*/*.ipynb")
    page = Elements(site / "runs" / f"{executed.stem}.html")
    links = [(site / "runs" / unquote(a["href"])).resolve() for tag, a in page.found if tag == "a"]
    record = next(site.parent.glob(f"runs/*/{executed.stem}.json"))
    assert links == [(site / "index.html").resolve(), record.resolve(), executed.resolve()]
    for stated in ("train_size", "the method's own default", "device seconds", SCRIPT, "torch"):
        assert stated in page.words
    other = Elements(next(path for path in of(site, "runs") if path.stem not in (executed.stem, "0123456789ab")))
    assert sum(tag == "polyline" for tag, _ in other.found) == 1


@pytest.mark.slow
def test_a_failed_run_says_why(site):
    page = Elements(site / "runs" / "0123456789ab.html")
    assert f"ValueError: {SCRIPT}{IMAGE}" in page.words
    assert "failed" in page.words
    assert html.escape(SCRIPT) in (site / "runs" / "0123456789ab.html").read_text()


@pytest.mark.slow
def test_again_is_the_same_bytes_without_executing_and_without_pages_of_runs_that_are_gone(site):
    before = {path: path.read_bytes() for path in site.rglob("*.html")}
    executed = {path: path.stat().st_mtime_ns for path in site.parent.glob("executed/*.ipynb")}
    assert len(executed) == len(summary_notebooks())
    for path in executed:  # a record that is written while a notebook runs is newer than the notebook
        began = nbformat.read(path, as_version=4).metadata.papermill.start_time
        assert path.stat().st_mtime <= datetime.fromisoformat(began).timestamp()
    (site / "runs" / "gone.html").write_text("a run that was")
    report.write(site.parent)
    assert {path: path.read_bytes() for path in site.rglob("*.html")} == before
    assert {path: path.stat().st_mtime_ns for path in site.parent.glob("executed/*.ipynb")} == executed
    cut_short = max(executed)
    cut_short.write_text(cut_short.read_text()[:-100])
    report.write(site.parent)
    assert {path: path.read_bytes() for path in site.rglob("*.html")} == before


@pytest.mark.slow
def test_a_record_that_went_away_makes_the_notebooks_anew(site):
    stale, *others = sorted(site.parent.glob("executed/*.ipynb"))
    folder = next(site.parent.glob("runs/*"))
    before, made = folder.stat().st_mtime, stale.stat().st_mtime
    os.utime(folder, (made + 1, made + 1))  # as when a file in it is deleted
    for path in others:
        os.utime(path, (made + 2, made + 2))
    report.write(site.parent)
    os.utime(folder, (before, before))
    assert stale.stat().st_mtime > made


def test_a_folder_of_failed_runs_answers_nothing(tmp_path):
    config = RunConfig(dataset="digits", model="simple_nn", method="full")
    store.failed(tmp_path, "0123456789ab", config, {}, "out of memory", started=0.0)
    page = Elements(report.write(tmp_path))
    assert "0 completed runs, 1 failed." in page.words
    assert "Scores are" not in page.words
    assert answers.which(tables.read(tmp_path)).question not in page.words


def test_a_model_of_a_completed_and_of_a_failed_run_has_one_name(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_executed", lambda *_: [])
    knobs = {"dataset": "sst2", "model": "/models/my-own", "method": "full", "train_size": 32, "data_fraction": None}
    write_run(tmp_path, outcomes(0.5, 32, 0), **knobs)
    store.failed(tmp_path, "0123456789ab", RunConfig(**knobs), {}, "out of memory", started=0.0)
    assert re.findall(r"<option>(.*my-own)</option>", report.write(tmp_path).read_text()) == ["my-own"]


def test_a_notebook_keeps_its_prose_tables_and_pictures_and_no_markup_that_acts():
    hostile = f"{SCRIPT}{IMAGE}<iframe src=//x></iframe><a href='javascript:pwned()' onclick=pwned()>link</a>"
    table = f"<style scoped>th {{}}</style><table><thead><tr><th>score</th></tr></thead></table>{hostile}"
    outputs = [
        v4.new_output("stream", text=f"first {hostile}\n"),
        v4.new_output("execute_result", {"text/html": table}),
        v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}),
        v4.new_output("display_data", {"text/markdown": hostile}),
        v4.new_output("display_data", {"image/svg+xml": hostile}),
        v4.new_output("display_data", {"application/javascript": "pwned()"}),
        v4.new_output("error", ename=hostile, evalue=hostile, traceback=[hostile]),
    ]
    cells = [
        v4.new_markdown_cell(f"# Title\n{hostile}"),
        v4.new_code_cell("results = 'secret'", metadata={"tags": ["parameters"]}),
        v4.new_code_cell(f"print({hostile!r})", outputs=outputs, execution_count=1),
    ]
    body = Elements(report.notebook_body(v4.new_notebook(cells=cells)))
    tags = {tag for tag, _ in body.found}
    assert {"h1", "table", "th", "pre", "details", "img"} <= tags
    assert not tags & {"script", "iframe", "style", "svg"}
    for tag, attributes in body.found:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not attributes.get("href"), attributes
        assert attributes.get("src", "data:image/").startswith("data:image/")
    assert ("img", {"src": "data:image/png;base64,iVBORw0KGgo=", "alt": "Title"}) in body.found
    assert f"first {hostile}" in body.words
    assert "secret" not in body.words


@pytest.mark.slow
def test_a_folder_as_a_first_sweep_leaves_it_has_its_page_and_settings_differ_in_name(tmp_path):
    """Two seeds, no `from_scratch`, three kinds of task."""
    write_study(tmp_path, ("sst2", "cifar10", "conll2003"), (32, 100), seeds=2, names=("full", "conventional"))
    write_run(tmp_path, outcomes(0.5, 32, 0), method="full", dataset="sst2", model="minilm", train_size=32, data="1")
    for dataset in ("sst2", "cifar10"):
        knobs = {"dataset": dataset, "model": MODEL.get(dataset, "minilm"), "train_size": 32, "learning_rate": 1e-4}
        write_run(tmp_path, outcomes(0.5, 32, 0), method="full", **knobs)
    words = Elements(report.write(tmp_path)).words
    assert "27 completed runs" in words
    assert len(set(re.findall(r"sst2 [0-9a-f]{6}", words))) == 2  # rows of two versions of the data are distinguished
    assert words.count("full [learning_rate=0.0001]") >= 2


def test_an_empty_folder_has_a_page_that_says_how_to_fill_it(tmp_path):
    done = call("report", tmp_path)
    assert done.returncode == 0, done.stderr
    page = Elements(Path(done.stdout.strip()))
    assert "There is no run here yet." in page.words
    assert "lrtl sweep demo --results" in page.words
    assert page.open == []
    assert [path.name for path in tmp_path.rglob("*")] == ["report", "index.html"]


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        report.write(tmp_path)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_report_reads_each_record_once(tmp_path, monkeypatch):
    write_study(tmp_path, datasets=("sst2",), sizes=(32, 100))
    counted, read = [], store.read
    monkeypatch.setattr(store, "read", lambda path: counted.append(path) or read(path))
    monkeypatch.setattr(report, "_executed", lambda results, metric: [])  # notebooks are processes of their own
    report.write(tmp_path)
    assert sorted(counted) == store.paths(tmp_path)


@pytest.mark.slow
def test_by_another_metric_the_answers_and_the_notebooks_are_made_anew(tmp_path):
    true, rng = np.arange(400) % 4, np.random.default_rng(0)
    for seed in range(3):
        for method, skill in (("full", 0.9), ("conventional", 0.5)):
            answered = np.stack([true, np.where(rng.random(400) < skill, true, 0)], axis=1)
            write_run(tmp_path, answered, method=method, seed=seed, dataset="ag_news", model="minilm", train_size=32)
    for words, stated in (([], False), (["--metric", "macro_f1"], True)):
        done = call("report", tmp_path, *words)
        assert done.returncode == 0, done.stderr
        pages = [tmp_path / "report/index.html", *(tmp_path / "report/notebooks").glob("2[013]_*.html")]
        assert ["macro F1" in Elements(page).words for page in pages] == [stated] * 4

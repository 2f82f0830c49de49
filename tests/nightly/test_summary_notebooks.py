"""The summary notebooks as a user makes them: with one command, from any records, the same bytes each time."""

import re

import nbformat
import pytest
from complete import call
from synthetic import write_study

from lrtl_utils.errors import InputError
from lrtl_utils.runs.notebook import refresh, summary_notebooks
from lrtl_utils.study import tables
from lrtl_utils.study.benchmarks import readme
from lrtl_utils.study.report import SECTIONS

NAMES = [path.name for path in summary_notebooks()]


def outputs(path):
    return [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]


@pytest.fixture(scope="module")
def anew(tmp_path_factory):
    """Copies of the notebooks for a small folder of records, beside a README, made again by the command."""
    folder = tmp_path_factory.mktemp("anew")
    names = ("from_scratch", "full", "conventional")
    write_study(folder / "results", datasets=("sst2",), sizes=(32, 100, 316, 1000), names=names)
    (folder / "notebooks").mkdir()
    for path in summary_notebooks():
        notebook = nbformat.read(path, as_version=4)
        (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        cell.source = re.sub(
            r'results = (\[.*?\]|"[^"]*")', f"results = {str(folder / 'results')!r}", cell.source, flags=re.DOTALL
        )
        nbformat.write(notebook, folder / "notebooks" / path.name)
    (folder / "README.md").write_text(f"# Ours\n{readme.MARKS[0]}\nwhat stood here\n{readme.MARKS[1]}\nThe rest.\n")
    done = call("figures", folder / "notebooks")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_same_records_give_the_same_bytes(anew):
    pictures = {path.name for path in anew.glob("results/figures/*.png")}
    assert pictures > {
        "accuracy_vs_data.png",
        "accuracy_vs_seconds.png",
        "memory.png",
        "differences.png",
        "aggregate.png",
    }
    notebooks = [anew / "notebooks" / name for name in ("20_accuracy_vs_data.ipynb", "21_accuracy_vs_cost.ipynb")]
    drawn = [anew / "results/figures" / f"accuracy_vs_{name}.png" for name in ("data", "seconds", "flops")]
    made = {path: path.read_bytes() for path in [*notebooks, *drawn]}
    for path in notebooks:
        refresh(path)
    assert {path: path.read_bytes() for path in made} == made


def test_the_readme_gives_the_four_answers_with_pictures_and_notebooks_that_are_there(anew):
    text = (anew / "README.md").read_text()
    assert text.startswith(f"# Ours\n{readme.MARKS[0]}\n")
    assert text.endswith(f"{readme.MARKS[1]}\nThe rest.\n")
    assert "what stood here" not in text
    frame, page = tables.read(anew / "results"), (anew / "results/README.md").read_text()
    for ask, *_ in SECTIONS:
        answer = ask(frame)
        assert f"\n- **{answer.question}** {answer.headline}\n" in text
        assert f"## {answer.question}\n\n{answer.headline} (" in page
        assert all(f"\n- {one}\n" in page for one in answer.each)
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links[:2] == ["../../docs/baselines.md", "../README.md"]  # of what was tuned, and of the data sets
    assert len(links) == 2 + 3 * len(SECTIONS)
    assert all((anew / "results" / link).is_file() for link in links[2:])
    assert re.findall(r"\]\(([^)]+)\)", text) == ["results/README.md"]


@pytest.mark.parametrize("text", ["", readme.MARKS[0], f"{readme.MARKS[1]}\n{readme.MARKS[0]}"])
def test_a_readme_without_its_marks_is_left_as_it_is(anew, tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(InputError, match="must have a line"):
        readme.refresh(tmp_path / "README.md", anew / "notebooks")
    assert (tmp_path / "README.md").read_text() == text


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_has_its_sentence_and_nothing_went_wrong(anew, name):
    notebook = nbformat.read(anew / "notebooks" / name, as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    said = outputs(anew / "notebooks" / name)
    assert not [output for output in said if output.output_type == "error" or output.get("name") == "stderr"]
    texts = ["".join(output.get("text", "") for output in cell.get("outputs", [])) for cell in notebook.cells]
    for at, cell in enumerate(notebook.cells):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            explained = notebook.cells[at - 1].cell_type == "markdown"  # what the picture shows
            assert explained or texts[at] or texts[at + 1], cell.source
    assert str(anew) not in "\n".join(texts)


def test_money_is_device_hours_at_the_price_given(anew):
    path = anew / "notebooks" / "21_accuracy_vs_cost.ipynb"
    stated = "".join(output.get("text", "") for output in outputs(path))
    assert re.search(r"At 1\.0 an hour:\nsst2 · minilm: a run of full with 1000 labels costs \S+, one of ", stated)
    page = next(output["data"]["text/html"] for output in reversed(outputs(path)) if "data" in output)
    names = re.findall(r"<th>([^<]+)</th>", page)
    values = re.findall(r"<td>(.*?)</td>", page)
    columns = {name: values[at :: len(values) // 3] for at, name in enumerate(names[: len(values) // 3])}  # three rows
    for seconds, money in zip(columns["device_seconds"], columns["money"], strict=True):
        assert float(money) == pytest.approx(float(seconds) / 3600, abs=1e-5)


def test_an_empty_folder_is_said_in_one_sentence_and_leaves_whole_notebooks(tmp_path):
    done = call("summary", tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr.strip().splitlines()[-1].endswith("has no completed record to draw; `lrtl sweep demo` makes some.")
    )
    assert "Traceback" not in done.stderr
    assert [path.name for path in sorted(tmp_path.glob("executed/*"))] == NAMES
    for path in tmp_path.glob("executed/*"):
        assert not [output for output in outputs(path) if output.output_type == "error"]

"""The commands of docs/own_data.md, run in their order on a user's own file; and `compare` on data of every form."""

import csv
import re
import shlex

import datasets
import pytest
from complete import call
from own_files import rows, write_csv
from PIL import Image

import lrtl_utils
from lrtl_utils.files import ROOT, absolute_path
from lrtl_utils.study.tables import records


def commands(page):
    """The calls of a page's shell block, each as the words after `lrtl`."""
    (block,) = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    start = "lrtl "
    assert all(line.startswith(start) for line in block.splitlines())
    return [shlex.split(line.removeprefix(start)) for line in block.splitlines()]


@pytest.mark.slow
def test_commands_of_the_page_do_what_it_says(tmp_path):
    write_csv(tmp_path / "reviews.csv", rows(90))
    write_csv(tmp_path / "new.csv", [(text,) for text, _ in rows(6)], ("text",))
    said = {}
    for words in commands(ROOT / "docs" / "own_data.md"):
        # The user's files and results, in the test's own folder; a budget that only the least fits.
        places = [word.replace("my/", f"{tmp_path}/").replace("results/mine", f"{tmp_path}/mine") for word in words]
        if places[0] == "compare":
            places[places.index("--budget") + 1] = "0.4"
            places += ["--results", str(tmp_path / "compared")]
        done = call(*places)
        assert done.returncode == 0, (words, done.stderr)
        said[words[0]] = done.stdout
    assert list(said) == ["doctor", "compare", "run", "predict", "verify"]

    assert said["doctor"].startswith(
        "# reviews.csv: text, 2 classes\n67 examples to train on, 23 to test on (made: 25%"
    )
    page, _, about_labels = said["doctor"].partition("\n## Labels that may be wrong\n")
    assert page in said["compare"]
    assert "of 90 examples; each is predicted by a head that was fitted without it." in about_labels
    for stated in (
        "4 runs, about",
        "4 completed, 0 already done, 0 failed",
        "Which model and which method is best?",
        "How much data do I need?",
        "What does it cost?",
        "Is the difference real, or noise?",
    ):
        assert stated in said["compare"]
    pictures = [line for line in said["compare"].splitlines() if line.endswith(".png")]
    assert pictures
    assert all(absolute_path(picture).is_file() for picture in pictures)
    assert said["compare"].splitlines()[-1] == str(tmp_path / "compared" / "report" / "index.html")
    frame = records(tmp_path / "compared", "completed")
    assert (set(frame["method"]), set(frame["n_labels"])) == ({"tfidf", "linear_probe"}, {32, 67})

    (record,) = (tmp_path / "mine").glob("runs/reviews.csv/*.json")
    assert said["run"].splitlines()[-1] == str(record)
    assert len(list(csv.DictReader((tmp_path / "new.predictions.csv").open()))) == 6
    assert "1 record, 0 fail" in said["verify"]


def as_a_dataset(folder):
    rows = [{"text": f"a {word} film number {i}", "label": word} for i in range(45) for word in ("fine", "dull")]
    return datasets.Dataset.from_list(rows)


def as_images(folder):
    for name, colour in (("cat", "black"), ("dog", "white")):
        (folder / "pets" / name).mkdir(parents=True)
        for i in range(45):
            Image.new("RGB", (8 + i, 8), colour).save(folder / "pets" / name / f"{i}.png")
    return "pets"


def as_a_list_of_images(folder):
    as_images(folder)
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (folder / "pets.csv").write_text("\n".join(["image,label", *lines]))
    return "pets.csv"


def as_conll(folder):
    (folder / "names.conll").write_text("".join(f"Ada{i}\tB-PER\nran\tO\n\n" for i in range(45)))
    return "names.conll"


def as_a_repository(folder):
    place = folder / "mirror/datasets/acme/films/data"
    place.mkdir(parents=True)
    as_a_dataset(folder).to_parquet(place / "train-0.parquet")
    return "acme/films"


FORMS = pytest.mark.parametrize(
    ("made", "model"),
    [
        (as_a_dataset, "minilm_l3"),
        (as_images, "efficientnet_lite0"),
        (as_a_list_of_images, "efficientnet_lite0"),
        (as_conll, "minilm_l3_crf"),
        (as_a_repository, "minilm_l3"),
    ],
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in which a user is, and which is the home and has the mirror."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path / "mirror"))
    return tmp_path


@FORMS
def test_compare_takes_data_of_every_form(made, model, folder):
    options = {"budget_minutes": 1e4, "dry_run": True, "show": lambda _: None}
    compared = lrtl_utils.compare(made(folder), models=[model], **options)
    assert {cell.config.method for cell in compared.cells} >= {"linear_probe", "progressive", "full"}
    assert compared.results.parent == folder / "results"


@pytest.mark.slow
@FORMS
def test_compare_answers_on_data_of_every_form(made, model, folder):
    small = {"image_size": 32} if model.startswith("efficient") else {"max_length": 16}
    compared = lrtl_utils.compare(made(folder), models=[model], budget_minutes=0, show=lambda _: None, **small)
    assert (compared.outcome.failed, compared.outcome.left) == ([], 0)
    assert len(compared.runs) == len(compared.cells) > 0  # each record is known to be of these data
    assert any(line.startswith("lrtl run ") for line in compared.advice())

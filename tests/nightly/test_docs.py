"""What docs/extend.md adds to the package is added, priced and run."""

import os
import re
import shutil

from complete import call

from lrtl_utils.files import ROOT
from lrtl_utils.runs import store


def blocks(page, language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), flags=re.M | re.S)
    return [block for named, block in found if named == language]


def test_what_a_page_adds_is_priced_and_run(mirror, tmp_path):
    """extend.md: a data set, a model and a method are added to a copy of the package, then the page's grid is run."""
    data, model, method, name = blocks("docs/extend.md", "python")
    (grid,) = blocks("docs/extend.md", "yaml")
    package = tmp_path / "lrtl_utils"
    shutil.copytree(ROOT / "lrtl_utils", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    (package / "methods/upper_half.py").write_text(method)
    added = (("data/catalog.py", "TASKS = {", data), ("models/catalog.py", "MODELS = {", model))
    for file, table, line in (*added, ("methods/__init__.py", "VERSIONS = {", name)):
        text = (package / file).read_text()
        assert text.count(f"\n{table}\n") == 1
        (package / file).write_text(text.replace(f"\n{table}\n", f"\n{table}\n    {line}"))
    write_tickets(tmp_path / "mirror/datasets/your-org/tickets")
    shutil.copytree(mirror / "models/google-bert/bert-base-uncased", tmp_path / "mirror/models/your-org/small-bert")
    (tmp_path / "my_grid.yaml").write_text(grid)
    places = {"PYTHONPATH": str(tmp_path), "LRTL_MIRROR": str(tmp_path / "mirror"), "HF_HUB_OFFLINE": "1"}
    printed = []
    for command in blocks("docs/extend.md", "")[-1].splitlines():
        assert command.startswith("lrtl ")
        done = call(*command.split()[1:], cwd=tmp_path, env=os.environ | places, timeout=300)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    price, outcome = printed
    assert "tickets small_bert upper_half" in price
    assert "2 completed" in outcome
    assert re.search(r"^FLOPs: .* measured \([+-]0%\)$", outcome, flags=re.M), "it was priced as it ran"
    found = {record["config"]["method"]: record for record in store.records(tmp_path / "results/mine")}
    assert set(found) == {"upper_half", "linear_probe"}
    assert found["upper_half"]["data"]["source"]["id"] == "your-org/tickets"
    sizes = [record["model"]["trainable_parameters"] for record in found.values()]
    assert len(set(sizes)) == 2  # half of the blocks are not the head alone


def write_tickets(folder):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"body": Value("string"), "queue": ClassLabel(names=["billing", "shipping"])})
    rows = {"body": [f"{word} {i}" for i in range(20) for word in ("the bill", "a parcel")], "queue": [0, 1] * 20}
    for split in ("train", "test"):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(rows, features=features).to_parquet(folder / f"data/{split}-00000-of-00001.parquet")

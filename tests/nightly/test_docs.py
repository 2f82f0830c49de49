"""The pages in docs/ say what is so: their blocks of code are run, their commands parsed, their keys looked up."""

import os
import re
import shutil
import subprocess
import sys

from lrtl_utils.files import ROOT
from lrtl_utils.runs import store as runs


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), flags=re.M | re.S)


def test_what_a_page_adds_is_run(mirror, tmp_path):
    """The lines and the function of extend.md, in a copy of this project; then its grid."""
    data, model, function, method = blocks("docs/extend.md", "python")
    (grid,) = blocks("docs/extend.md", "yaml")
    shutil.copytree(ROOT / "lrtl_utils", tmp_path / "lrtl_utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for file, table, line in (("tasks", "TASKS", data), ("models", "MODELS", model), ("methods", "METHODS", method)):
        path = tmp_path / f"lrtl_utils/{file}.py"
        above = function if file == "methods" else ""
        path.write_text(path.read_text().replace(f"\n{table} = {{\n", f"\n{above}\n{table} = {{\n    {line}", 1))
    write_tickets(tmp_path / "mirror/datasets/your-org/tickets")
    shutil.copytree(mirror / "models/google-bert/bert-base-uncased", tmp_path / "mirror/models/your-org/small-bert")
    (tmp_path / "my_grid.yaml").write_text(grid)
    words = ["-m", "lrtl_utils", "sweep", str(tmp_path / "my_grid.yaml"), "--results", str(tmp_path / "results")]
    places = {"PYTHONPATH": str(tmp_path), "LRTL_MIRROR": str(tmp_path / "mirror"), "HF_HUB_OFFLINE": "1"}
    for more in (["--dry-run"], []):
        called = [sys.executable, *words, *more]
        done = subprocess.run(
            called, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    assert "2 completed" in done.stdout
    found = {record["config"]["method"]: record for record in runs.records(tmp_path / "results")}
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

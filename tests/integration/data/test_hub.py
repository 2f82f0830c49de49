"""`fetch` and the manifest, against a hub on loopback over the hub's real client."""

import json

import complete
import httpx
import pytest
from hub import environment, serve
from huggingface_hub.errors import GatedRepoError

from lrtl_utils.cli import doctor
from lrtl_utils.data import load as tasks
from lrtl_utils.data.hub import MANIFEST, Manifest, Repository, _answers, asking_the_hub, sums
from lrtl_utils.errors import InputError

AG_NEWS, B0 = "datasets/fancyzhx/ag_news", "models/timm/efficientnet_b0.ra_in1k"
PINNED, NEWEST = tasks.TASKS["ag_news"].revision, "b0" * 20
TRAIN, TEST, WEIGHTS = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet", "model.safetensors"
ROWS = {"README.md": b"nobody asks for this one", f"data/{TRAIN}": b"train rows" * 999, f"data/{TEST}": b"test rows"}
CHECKPOINT = {
    WEIGHTS: b"weights",
    "config.json": b"{}",
    "spm.model": b"of a tokenizer",
    "pytorch_model.bin": b"a pickle",
    "onnx/model.safetensors": b"in another format",
}


@pytest.fixture
def hub():
    with serve() as server:
        server.holds = {(AG_NEWS, PINNED): ROWS, (B0, NEWEST): CHECKPOINT}
        yield server


def call(server, folder, *words, **variables):
    done = complete.call(*words, env=environment(server, folder) | variables, timeout=120)
    assert "Traceback" not in done.stderr
    return done


def fetch(server, folder, *words):
    server.asked.clear()
    return call(server, folder, "fetch", *(words or ("--datasets", "ag_news")), "--to", folder / "mirror")


def got(server):
    return sorted(part for verb, part, _ in server.asked if verb == "GET" and "." in part)


def files_of(mirror):
    return sorted(path.relative_to(mirror).as_posix() for path in mirror.rglob("*") if path.is_file())


def origin(folder, name, **variables):
    """What `doctor` says of that name, where there is no network."""
    said = call(None, folder, "doctor", HF_HUB_OFFLINE="1", **variables).stdout.splitlines()
    return next(line for line in said if f" {name}: " in line)


def test_what_is_read_is_fetched_summed_and_used_without_a_network(hub, tmp_path):
    done = fetch(hub, tmp_path, "--datasets", "ag_news,digits", "--models", "efficientnet_b0")
    assert done.returncode == 0, done.stderr
    mirror = tmp_path / "mirror"
    assert done.stdout.splitlines() == [
        f"ag_news: 2 files, 0.0 MB, at {PINNED}",
        "digits: installed, nothing to fetch",
        f"efficientnet_b0: 3 files, 0.0 MB, at {NEWEST}",
        str(mirror),
    ]
    rows = [f"{AG_NEWS}/data/{TEST}", f"{AG_NEWS}/data/{TRAIN}"]
    model = [f"{B0}/{name}" for name in ("config.json", WEIGHTS, "spm.model")]
    assert files_of(mirror) == [*rows, "manifest.json", *model]
    known = json.loads((mirror / "manifest.json").read_text())["repositories"]
    assert known[AG_NEWS]["revision"] == PINNED
    assert known[AG_NEWS]["files"][f"data/{TEST}"]["size"] == len(ROWS[f"data/{TEST}"])

    assert f"{AG_NEWS}: 2 files, complete, at {PINNED}" in call(None, tmp_path, "doctor", "--mirror").stdout
    assert origin(tmp_path, "ag_news").startswith("dataset ag_news: mirror, ")

    # The newest revision is what it was when it was first fetched.
    hub.holds[B0, "c0" * 20] = hub.holds.pop((B0, NEWEST))
    again = fetch(hub, tmp_path, "--models", "efficientnet_b0")
    assert again.stdout.splitlines()[0] == f"efficientnet_b0: already complete, at {NEWEST}"
    assert got(hub) == []


@pytest.mark.slow
def test_a_flipped_byte_is_found_before_use_and_fetched_again(hub, tmp_path):
    fetch(hub, tmp_path)
    path = tmp_path / "mirror" / AG_NEWS / "data" / TEST
    path.write_bytes(b"Test rows")
    checked = call(None, tmp_path, "doctor", "--mirror")
    assert checked.returncode == 1
    assert f"{path} is damaged" in checked.stdout
    run = call(None, tmp_path, "run", "text_classification", "-p", "dataset=ag_news", HF_HUB_OFFLINE="1")
    assert run.returncode == 2
    assert f"{path} is damaged" in run.stderr
    assert len(run.stderr.splitlines()) == 1

    path.write_bytes(b"test")
    assert f"{path} has 4 bytes where the manifest has 9" in call(None, tmp_path, "doctor", "--mirror").stdout
    path.unlink()
    assert f"{path} is missing" in call(None, tmp_path, "doctor", "--mirror").stdout
    assert fetch(hub, tmp_path).returncode == 0
    assert path.read_bytes() == b"test rows"
    assert call(None, tmp_path, "doctor", "--mirror").returncode == 0


def test_damaged_weights_of_a_mirror_are_not_replaced_by_a_pickle_of_the_hub(hub, tmp_path):
    named = "models/acme/mine"
    hub.holds[named, NEWEST] = CHECKPOINT
    weights = tmp_path / "mirror" / named / WEIGHTS
    weights.parent.mkdir(parents=True)
    weights.write_bytes(CHECKPOINT[WEIGHTS])
    (weights.parent / "config.json").write_bytes(CHECKPOINT["config.json"])
    locked = sums(weights.parent, NEWEST)
    (tmp_path / "mirror" / MANIFEST).write_text(Manifest(repositories={named: locked}).model_dump_json())
    words = ["run", "text_classification", "-p", "method=conventional", "-p", "model=acme/mine"]
    for damage, said in ((lambda: weights.write_bytes(b"WEIGHTS"), "is damaged"), (weights.unlink, "is missing")):
        damage()
        done = call(hub, tmp_path, *words, "--results", tmp_path / "out")
        assert done.returncode == 2
        assert f"{weights} {said}" in done.stderr
    assert "pytorch_model.bin" not in got(hub)


def test_what_the_client_says_of_a_gated_repository_or_a_proxy_is_one_sentence(hub, tmp_path):
    answer = httpx.Response(403, request=httpx.Request("GET", hub.address))
    gated = GatedRepoError("Access to acme/mine is restricted.\nVisit its page to ask for access.", response=answer)
    scheme, mine = ValueError("Unknown scheme for proxy URL"), Repository("model", "acme/mine", None, (".safetensors",))
    for error, cause, said in ((gated, httpx.HTTPError("403"), "is restricted"), (scheme, None, "Unknown scheme")):
        expected = pytest.raises(InputError, match=f"^acme/mine could not be fetched from .*{said}")
        with expected as raised, asking_the_hub(mine):
            raise error from cause
        assert "\n" not in str(raised.value)
    words = ["fetch", "--models", "roberta_base", "--to", tmp_path / "mirror"]
    assert call(hub, tmp_path, *words, ALL_PROXY="socks://127.0.0.1:9/").returncode != 0  # and without a traceback


def test_a_mirror_without_manifest_is_used_and_left_alone(hub, tmp_path):
    path = tmp_path / "mirror" / AG_NEWS / "data" / TRAIN
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a cut-down copy")
    assert origin(tmp_path, "ag_news").startswith("dataset ag_news: mirror, ")
    done = fetch(hub, tmp_path)
    assert done.returncode == 1
    assert "exists but is not in the manifest: move it away" in done.stderr
    assert path.read_bytes() == b"a cut-down copy"


@pytest.mark.slow
def test_a_download_that_broke_off_goes_on_and_is_not_used_meanwhile(hub, tmp_path):
    hub.faults["GET", TRAIN] = [503] * 9
    done = fetch(hub, tmp_path)
    assert done.returncode == 1
    assert "Run the same command again to continue." in done.stderr
    assert TEST in got(hub)
    assert files_of(tmp_path / "mirror" / "datasets") == []
    assert "missing: " in origin(tmp_path, "ag_news")

    hub.faults.clear()
    assert fetch(hub, tmp_path).returncode == 0
    assert got(hub) == [TRAIN]
    assert not (tmp_path / "mirror" / ".partial").exists()


@pytest.mark.parametrize(
    ("verb", "part", "faults"),
    [
        ("GET", TRAIN, [503]),
        ("HEAD", TRAIN, [503]),
        ("GET", PINNED, [503]),  # the list of files
        ("GET", TRAIN, [429]),
        ("GET", TRAIN, ["short"]),
        ("GET", TRAIN, ["flip"]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else value,
)
def test_what_goes_wrong_once_is_tried_again(hub, tmp_path, verb, part, faults):
    hub.faults[verb, part] = list(faults)
    done = fetch(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.faults[verb, part] == []
    path = tmp_path / "mirror" / AG_NEWS / "data" / TRAIN
    assert path.read_bytes() == ROWS[f"data/{TRAIN}"]


def test_after_a_dropped_connection_what_had_come_is_not_asked_for_again(hub, tmp_path):
    large = bytes(24 * 2**20)  # the client writes chunks of 10 MiB
    hub.holds[AG_NEWS, PINNED] = ROWS | {f"data/{TRAIN}": large}
    hub.faults["GET", TRAIN] = ["drop"]
    assert fetch(hub, tmp_path).returncode == 0
    assert [row for row in hub.asked if row[:2] == ("GET", TRAIN)][1:] == [("GET", TRAIN, f"bytes={10 * 2**20}-")]
    assert (tmp_path / "mirror" / AG_NEWS / "data" / TRAIN).read_bytes() == large


@pytest.mark.parametrize("fault", ["short", pytest.param("flip", marks=pytest.mark.slow)])
def test_what_is_not_as_the_hub_lists_it_never_reaches_the_mirror(hub, tmp_path, fault):
    hub.faults["GET", TEST] = [fault] * 99
    done = fetch(hub, tmp_path)
    assert done.returncode == 1
    said = {"short": "file should be of size 9 but has size 8", "flip": "does not match the hub's checksum"}
    assert said[fault] in done.stderr
    assert files_of(tmp_path / "mirror" / "datasets") == []


def test_a_revision_that_vanished_is_reported_and_the_rest_is_fetched(hub, tmp_path):
    del hub.holds[AG_NEWS, PINNED]
    done = fetch(hub, tmp_path, "--datasets", "ag_news", "--models", "efficientnet_b0")
    assert done.returncode == 1
    assert f"ag_news: fancyzhx/ag_news at revision {PINNED} could not be fetched" in done.stderr
    assert f"efficientnet_b0: 3 files, 0.0 MB, at {NEWEST}" in done.stdout
    assert len([part for _, part, _ in hub.asked if part == PINNED]) == 1  # it is of no use to ask again


def test_an_endpoint_without_a_scheme_does_not_answer():
    assert not _answers("hub.example")


def test_a_proxy_that_cannot_be_used_is_named(hub, tmp_path):
    done = call(hub, tmp_path, "fetch", "--datasets", "ag_news", ALL_PROXY="socks5://127.0.0.1:1", no_proxy="")
    assert done.returncode == 1
    assert "socksio" in done.stderr


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_without_a_hub_fetch_ends_in_one_sentence(hub, tmp_path, variable):
    done = call(hub, tmp_path, "fetch", "--datasets", "ag_news", **{variable: "1"})
    assert done.returncode == 2
    assert "run `lrtl fetch` where there is internet access" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_is_installed_is_fetched_without_a_hub(tmp_path):
    done = call(None, tmp_path, "fetch", "--models", "minilm", HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "minilm: installed, nothing to fetch")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"repositories": {"a": 1}}', b"\xff", b'{"version": 2}'])
def test_a_manifest_that_is_none_is_one_sentence(monkeypatch, tmp_path, content):
    (tmp_path / "mirror" / AG_NEWS).mkdir(parents=True)
    (tmp_path / "mirror" / AG_NEWS / TRAIN).write_bytes(b"rows")
    (tmp_path / "mirror" / "manifest.json").write_bytes(content)
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(InputError, match="is not a valid manifest") as error:
        tasks.find("ag_news")
    assert "\n" not in str(error.value)


def test_a_mirror_that_lacks_a_part_of_a_table_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path))
    folder = tmp_path / AG_NEWS / "data"
    folder.mkdir(parents=True)
    for name in ("train-00000-of-00002.parquet", "test-00000-of-00001.parquet"):
        (folder / name).write_bytes(b"rows")
    with pytest.raises(InputError, match="data has 1 of the 2 parts of train; fetch or copy the others"):
        tasks.find("ag_news")
    (folder / "train-00002-of-00002-ab12.parquet").write_bytes(b"rows")
    assert len(tasks.find("ag_news").files) == 3
    locked = sums(tmp_path / AG_NEWS, PINNED)
    (tmp_path / MANIFEST).write_text(Manifest(repositories={AG_NEWS: locked}).model_dump_json())
    (folder / "train-copy.parquet").write_bytes(b"rows")
    with pytest.raises(InputError, match=r"train-copy\.parquet is not in the manifest of the mirror; move it away\."):
        tasks.find("ag_news")
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"test-00000-of-00001\.parquet is missing; `lrtl fetch"):
        tasks.find("ag_news")


def test_a_mirror_at_another_revision_than_the_pinned_is_reported(tmp_path):
    (tmp_path / AG_NEWS).mkdir(parents=True)
    (tmp_path / AG_NEWS / TRAIN).write_bytes(b"rows")
    locked = sums(tmp_path / AG_NEWS, NEWEST)
    (tmp_path / MANIFEST).write_text(Manifest(repositories={AG_NEWS: locked}).model_dump_json())
    lines, whole = doctor.mirror_report(tmp_path)
    assert lines == [f"{tmp_path / AG_NEWS} is at revision {NEWEST}, but {PINNED} is needed"]
    assert not whole

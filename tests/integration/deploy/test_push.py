"""A saved model goes to a hub on loopback, over the hub's real client."""

import shutil

import pytest
from complete import call
from hub import TOKEN, environment, serve
from huggingface_hub import ModelCard
from whole_run import run

from lrtl_utils.deploy import card, export


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    knobs = {"dataset": "news_sample", "model": "minilm_l3", "method": "linear_probe", "train_size": 8, "max_length": 8}
    model, path, data, *_ = run(folder / "results", test_limit=8, precision="fp32", **knobs)
    return export.save(model, data.classes, path, folder / "kept")


@pytest.fixture
def hub():
    with serve() as server:
        yield server


def push(server, folder, model, *more, **variables):
    """`lrtl push`; over the hub's older protocol for large files, since the newer one is not HTTP on one host."""
    known = environment(server, folder) | {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"} | variables
    return call("push", model, "acme/news", "--license", "apache-2.0", *more, env=known, timeout=120)


def test_every_file_arrives_and_the_card_is_complete(hub, saved, tmp_path):
    done = push(hub, tmp_path, saved, HF_ENDPOINT=f"{hub.address}/")
    assert (done.returncode, done.stdout) == (0, f"{hub.address}/acme/news\n"), done.stderr
    files = hub.pushed["acme/news"]
    given = {path.relative_to(saved).as_posix(): path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    assert {name: files[name] for name in given if name != "README.md"} == {
        name: content for name, content in given.items() if name != "README.md"
    }
    assert files.keys() == given.keys()
    known, before = (ModelCard(text.decode()).data for text in (files["README.md"], given["README.md"]))
    assert (known.license, before.license) == ("apache-2.0", None)
    assert known.base_model == "sentence-transformers/paraphrase-MiniLM-L3-v2"
    assert known.model_name == "minilm_l3-news_sample-linear_probe"
    scores = {result.metric_type: result.metric_value for result in known.eval_results}
    assert scores.keys() == {"accuracy", "precision", "recall", "f1"}
    assert [part for verb, part, _ in hub.asked if part == "main" and verb == "POST"] == ["main", "main"]


def test_the_code_of_the_card_names_the_repository(hub, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "model")
    code = [card.USE["sentence-transformers"], card.USE["timm"]]
    (folder / "README.md").write_text("\n".join([(folder / "README.md").read_text(), *code]))
    assert push(hub, tmp_path, folder).returncode == 0
    text = hub.pushed["acme/news"]["README.md"].decode()
    assert 'SentenceTransformer("acme/news")' in text
    assert 'create_model("hf-hub:acme/news", pretrained=True)' in text


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"HF_TOKEN": ""}, "There is no token for the hub: `hf auth login` stores one, or set HF_TOKEN."),
        ({"HF_TOKEN": "hf_wrong"}, "could not be uploaded to acme/news at http://127.0.0.1:"),
        ({"HF_HUB_OFFLINE": "1"}, "cannot be reached (or HF_HUB_OFFLINE is set)."),
    ],
    ids=["no token", "wrong token", "offline"],
)
def test_what_stops_an_upload_is_one_sentence(hub, saved, tmp_path, variables, sentence):
    assert sentence in refused(push(hub, tmp_path, saved, **variables), hub)


def refused(done, hub):
    """What a command said that uploaded nothing: one sentence."""
    assert (done.returncode, done.stdout, hub.pushed) == (2, "", {})
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_an_upload_that_breaks_off_is_one_sentence(hub, saved, tmp_path):
    hub.faults["PUT", "large"] = [403]
    said = refused(push(hub, tmp_path, saved, HF_HUB_DISABLE_PROGRESS_BARS="1"), hub)
    assert "could not be uploaded to acme/news at http://127.0.0.1:" in said
    assert "403 Forbidden" in said


def test_a_card_with_a_broken_header_is_named(hub, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "model")
    (folder / "README.md").write_text("---\ntags: a: b\n---\n\n# A model\n")
    assert f"{folder / 'README.md'} has a header that is not valid YAML" in refused(push(hub, tmp_path, folder), hub)
    assert hub.created == []


def test_a_record_that_was_cut_off_is_named(hub, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "model")
    (folder / "record.json").write_text('{"run_id": ')
    assert f"{folder / 'record.json'} is not the record of a run" in refused(push(hub, tmp_path, folder), hub)
    assert hub.created == []


def test_a_licence_that_the_hub_does_not_know_is_refused_in_its_words(hub, saved, tmp_path):
    said = refused(push(hub, tmp_path, saved, "--license", "free"), hub)
    assert 'Invalid metadata in README.md. - "license" must be one of [mit]' in said


@pytest.mark.parametrize(("more", "visibility"), [([], None), (["--private"], "private")])
def test_a_new_repository_is_as_its_owner_s_are_by_default_or_private(hub, saved, tmp_path, more, visibility):
    done = push(hub, tmp_path, saved, *more)
    assert done.returncode == 0, done.stderr
    (asked,) = hub.created
    assert (asked.get("visibility"), asked.get("private")) == (visibility, None)


def test_nothing_that_is_to_be_private_is_uploaded_to_a_public_repository(hub, saved, tmp_path):
    hub.created.append({"organization": "acme", "name": "news"})
    assert "the repository exists and is public" in refused(push(hub, tmp_path, saved, "--private"), hub)

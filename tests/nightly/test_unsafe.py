"""Input that was made to do harm: refused or made harmless, and always stated in one sentence."""

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from complete import call
from made_records import write
from pictures import png_that_claims

from lrtl_utils.config import RunConfig
from lrtl_utils.data import load as tasks
from lrtl_utils.data import rows
from lrtl_utils.errors import InputError
from lrtl_utils.files import ROOT, read_text, write_text
from lrtl_utils.measure import metrics
from lrtl_utils.models import catalog as models
from lrtl_utils.models.encoding import decode_image, encode_images
from lrtl_utils.runs import notebook as notebooks
from lrtl_utils.runs import store as runs
from lrtl_utils.runs.run import Run
from lrtl_utils.sweep import claims
from lrtl_utils.sweep import grid as grids


class Marks:
    """A pickle of it runs code where it is read: it makes a folder."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.fixture
def pwned(tmp_path):
    """The folder that must not appear."""
    place = tmp_path / "pwned"
    yield place
    assert not place.exists()


@pytest.fixture
def elsewhere(mirror, tmp_path, monkeypatch):
    """A mirror of one model and one data set, to be damaged."""
    for place in ("models/distilbert", "datasets/stanfordnlp/sst2"):
        shutil.copytree(mirror / place, tmp_path / "mirror" / place)
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path / "mirror"))
    return tmp_path / "mirror"


def refused(call, *said):
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)
    for words in said:
        assert words in str(error.value)


def command(*words):
    done = call(*words, timeout=180)
    assert "Traceback" not in done.stderr
    return done


# Pickles


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_would_run_code_are_refused_by_name(elsewhere, pwned, name):
    import torch

    folder = elsewhere / "models/distilbert/distilbert-base-uncased"
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Marks(pwned)}, folder / name)
    refused(lambda: models.find("distilbert"), str(folder / name))
    said = "would call posix.mkdir" if name.endswith(".bin") else "in a supported format"
    refused(lambda: models.find(str(folder)), str(folder / name), said)


def test_a_pickle_of_before_torch_had_an_archive_is_refused_unread(elsewhere, pwned):
    folder = elsewhere / "models/distilbert/distilbert-base-uncased"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Marks(pwned)))
    refused(lambda: models.find(str(folder)), f"{folder}/pytorch_model.bin has no weights in a supported format")


def test_an_archive_of_weights_that_unpacks_to_more_than_it_is_is_refused_unread(elsewhere):
    folder = elsewhere / "models/distilbert/distilbert-base-uncased"
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**24))
    refused(
        lambda: models.find(str(folder)),
        f"{folder}/pytorch_model.bin has no weights in a supported format",
        "compressed",
    )


def test_a_checkpoint_that_would_run_code_is_refused_by_name(pwned, tmp_path):
    import torch

    config = {"dataset": "digits", "model": "simple_nn", "method": "from_scratch", "train_size": 20, "image_size": 8}
    asked = notebooks.read_parameters("image_classification", config)
    planned = Run(asked)
    resolved, identity = planned.config, planned.id
    checkpoint = runs.work_folder(tmp_path, identity) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    torch.save(Marks(pwned), checkpoint)
    with pytest.raises(notebooks.RunFailed, match=r"would call posix\.mkdir"):
        notebooks.run_notebook("image_classification", asked, resolved, identity, tmp_path)


def test_a_pickle_for_a_record_is_refused(pwned, tmp_path):
    path = tmp_path / "runs/digits/0123456789ab.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(Marks(pwned), protocol=0))
    refused(lambda: runs.read(path), str(path))


# Names, links, pipes and devices


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "~/.ssh", "digits/../../..", "\x00", "digits\n"])
def test_names_that_lead_elsewhere_are_none(name):
    for parameter in ("dataset", "model", "method"):
        refused(lambda p=parameter: notebooks.read_parameters("text_classification", {p: name}))
    refused(lambda: notebooks.notebook_path(name), "There is no notebook")


def test_a_record_that_leads_elsewhere_is_refused(tmp_path):
    """Its id is its name, so a record cannot claim to be another file's."""
    source = next((ROOT / "results/search/runs").glob("*/*.json"))
    record = source.read_text().replace(source.stem, "../../../evil")
    path = tmp_path / "runs/sst2" / source.name
    path.parent.mkdir(parents=True)
    path.write_text(record)
    refused(lambda: runs.read(path), "run_id")


def test_links_in_a_results_folder_are_replaced_not_followed(tmp_path):
    valuable = tmp_path / "valuable"
    valuable.write_text("mine")
    folder = tmp_path / "results"
    path = runs.record_path(folder, "digits", "0123456789ab")
    path.parent.mkdir(parents=True)
    path.symlink_to(valuable)
    assert not runs.is_completed(path)  # quarantined: the link, not what it leads to
    assert not path.is_symlink()
    path.symlink_to(valuable)
    write_text(path, "{}")
    assert not path.is_symlink()
    work = runs.work_folder(folder, "0123456789ab")
    work.parent.mkdir()
    work.symlink_to(tmp_path, target_is_directory=True)
    write(folder)  # a completed record
    assert valuable.read_text() == "mine"


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    pipe = tmp_path / "runs/digits/0123456789ab.json"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    refused(lambda: runs.read(pipe), "it is not a regular file")
    assert runs.readable(pipe) is None
    for path in (pipe, Path("/dev/zero"), Path("/dev/stdin"), tmp_path):
        refused(lambda p=path: grids.read_grid(p), f"{path} cannot be read: it is not a regular file")
    (tmp_path / "claims").mkdir()
    os.mkfifo(tmp_path / "claims/0123456789ab.1.json")
    assert claims.take(tmp_path, "0123456789ab", "a cell") is None  # its owner is unknown, and lives by its stamp


def test_a_file_larger_than_its_kind_is_refused_unread(tmp_path):
    path = tmp_path / "grid.yaml"
    with path.open("wb") as stream:
        stream.truncate(2**40)  # takes no room
    refused(lambda: grids.read_grid(path), "bytes, more than the 100000 allowed")
    refused(lambda: runs.read(path), "bytes, more than the 33554432 allowed")
    refused(lambda: read_text(tmp_path / ("n" * 300), 1), "File name too long")


def test_data_that_links_to_a_device_is_no_file(elsewhere):
    train = next(elsewhere.glob("datasets/stanfordnlp/sst2/data/train-*"))
    train.unlink()
    train.symlink_to("/dev/zero")
    refused(lambda: tasks.load("sst2"), "has no file train-*.parquet")


# Bombs


@pytest.mark.parametrize("side", [8_000, 13_000, 60_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(side):
    refused(lambda: encode_images([png_that_claims(side, side)], [0], 32), "Image 1 cannot be decoded", "pixels")


def test_images_that_other_programs_would_read_are_of_no_known_format():
    from PIL import UnidentifiedImageError

    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(evil) run\n%%EOF\n"
    with pytest.raises(UnidentifiedImageError):
        decode_image(script)


@pytest.mark.parametrize("form", ["values.parquet", "categories.parquet", "categories.arrow"])
def test_a_table_that_unpacks_to_more_than_its_bound_is_refused(form, monkeypatch, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(rows, "MOST_BYTES", 2**25)
    count, path = 5_000, tmp_path / form
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), ["boom" * 250_000])
    columns = {"text": texts, "label": np.zeros(count, dtype=np.int64)}
    table = pa.table(columns)
    if path.suffix == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write(table)
    else:
        pq.write_table(table, path, compression="zstd", store_schema=form.startswith("categories"))
    assert path.stat().st_size < 1_100_000  # an .arrow file is not compressed
    refused(lambda: rows.read(path, ["text", "label"]), "holds more than 32 MiB")
    refused(lambda: tasks.load(str(path)), "holds more than 32 MiB")


def test_a_packed_array_that_unpacks_to_more_than_its_bound_is_refused(monkeypatch):
    packed = metrics.pack(np.zeros(2**20, dtype=bool))
    assert len(packed) < 1000
    assert metrics.unpack_hits(packed, 2**20).sum() == 0
    monkeypatch.setattr(metrics, "MOST_BYTES", 2**10)
    with pytest.raises(ValueError, match="more than 1024 bytes"):
        metrics.unpack_hits(packed, 2**20)


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: !!python/object/apply:os.system ['touch pwned']", "is not plain YAML"),
        ("seed: !!python/name:os.system ''", "is not plain YAML"),
        ("!!python/object/new:os.mkdir [pwned]", "is not plain YAML"),
        (LAUGHS.replace("a: &a", "seed: &a", 1), "There is no parameter"),
        ("seed: &a [*a]", "seed must be one value"),
        ("{" + LAUGHS.replace("\n", ", ").replace("i: &i", "seed: &i") + "}", "There is no parameter"),
        ("seed: {a: 1}", "seed must be one value"),
        ("\n".join(f"{name}: [{', '.join(['1'] * 99)}]" for name in RunConfig.model_fields), "cells, more than"),
        ("seed: " + "[" * 5000, "is not plain YAML"),
        ("seed: 2001-99-99", "is not plain YAML"),
        ("seed: " + "1" * 5000, "is not plain YAML"),
        ("seed: 0x" + "f" * 50_000, "seed="),
        ("? [a, b]\n: 1", "is not plain YAML"),
        ("__import__('os').system('touch pwned'): 1", "There is no parameter"),
        ("notebook: ../../evil\nseed: 0", "There is no notebook"),
        ("extends: /dev/zero", "it is not a regular file"),
        ("extends: [1]", "`extends` must be the name of one file, not [1]"),
    ],
)  # fmt: skip
def test_a_grid_that_would_run_code_or_fill_the_memory_is_refused(pwned, tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    refused(lambda: grids.read_grid(path), said)


# Terminals


def test_escapes_in_labels_and_names_reach_no_terminal(elsewhere, monkeypatch):
    from datasets import ClassLabel, Dataset, Features, Value

    escape = "\x1b]0;pwned\x07\x1b[2J"
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=[escape, "b"])})
    rows = Dataset.from_dict({"sentence": [escape, "x"], "label": [0, -1]}, features=features)
    rows.to_parquet(next(elsewhere.glob("datasets/stanfordnlp/sst2/data/train-*")))
    done = command("run", "sentiment_analysis", "-p", "dataset=sst2")
    assert done.returncode == 2
    assert "has label -1" in done.stderr
    assert "\\x1b]0;pwned" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr

    monkeypatch.setenv("LRTL_MIRROR", str(elsewhere.rename(elsewhere.with_name(f"mirror{escape.replace('/', '')}"))))
    done = command("doctor")
    assert "\\x1b]0;pwned" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr

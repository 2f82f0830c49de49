"""Whatever is given, one sentence or success: no traceback, no hang. Found cases stay found: nothing here is random."""

import csv
import io
import json
from datetime import timedelta

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lrtl_utils.config import RunConfig, read_config
from lrtl_utils.data import hub
from lrtl_utils.data import load as tasks
from lrtl_utils.errors import InputError
from lrtl_utils.files import ROOT
from lrtl_utils.models.encoding import FORMATS, encode_images
from lrtl_utils.runs import notebook as notebooks
from lrtl_utils.runs import store as runs
from lrtl_utils.runs import verify
from lrtl_utils.runs.record import checksum
from lrtl_utils.sweep import grid as grids

pytestmark = pytest.mark.filterwarnings("ignore:.* was moved to")  # of records that are damaged on purpose

settings.register_profile(
    "here",
    derandomize=True,
    database=None,
    deadline=timedelta(seconds=30),  # of one example: a hang, not a slow machine
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("here")

FIELDS = st.sampled_from(list(RunConfig.model_fields))
# Without what would name a path of this machine.
WORDS = st.text(st.characters(exclude_characters="/.~", exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, 2**31, 2**63])
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))
CHUNKS = [b"\r", b"\xe2\x80\xa8", b";", b"|", b"", b"\0", b"\xff\xfe", b"\r\n", b"\n\n", b'"', b"'", b",", b"\t", b"[", b"]", b"{", b"}", b":", b"- ", b"&a ", b"*a", b"!!binary ", b"null", b"NaN", b"-1", b"1e999", b"9" * 5000, b"\\ud800", b"O", b"I-", b"B-PER"]  # fmt: skip # noqa: E501


@st.composite
def edited(draw, content: bytes) -> bytes:
    """`content` with up to four slices put in place of others."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.sampled_from([0, 1, 2, 8, 100, 10**6])))
        content = content[:start] + draw(st.sampled_from(CHUNKS) | st.binary(max_size=8)) + content[stop:]
    return content


def survives(call) -> None:
    """It returns, or says in one sentence what is wrong."""
    said = None
    try:
        call()
    except InputError as error:
        said = str(error)
    assert said is None or 0 < len(said) < 2000


@settings(max_examples=300)
@given(st.dictionaries(FIELDS | WORDS, JSON, max_size=4))
def test_any_parameters(values):
    survives(lambda: read_config(values))


@settings(max_examples=100)
@given(
    st.sampled_from(["text_classification", "image_classification", "quickstart"]) | WORDS,
    st.dictionaries(FIELDS, WORDS, max_size=3),
)
def test_any_words_of_a_command_line(notebook, values):
    survives(lambda: notebooks.read_parameters(notebook, values))


GRIDS = sorted((ROOT / "notebooks/grids").glob("*.yaml"))


@settings(max_examples=120)
@given(st.sampled_from(GRIDS).flatmap(lambda path: edited(path.read_bytes())))
def test_any_edited_grid(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "grid.yaml"
    path.write_bytes(content)
    survives(lambda: grids.read_grid(path))


@settings(max_examples=120)
@given(
    st.dictionaries(
        FIELDS | st.sampled_from(["blocks", "notebook", "extends"]),
        JSON | st.dictionaries(WORDS, st.dictionaries(FIELDS, JSON, max_size=2), max_size=2),
        max_size=4,
    )
)
def test_any_grid(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "grid.yaml"
    path.write_text(yaml.safe_dump(values))
    survives(lambda: grids.read_grid(path))


RECORDS = [
    sorted((ROOT / "results/search/runs").glob("*/*.json"))[0],
    *sorted((ROOT / "results/study/runs").glob("conll2003/*.json"))[:1],
]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A machine without mirror: what records claim cannot be looked up."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("bare")
        patch.setenv("LRTL_MIRROR", str(folder))
        patch.setattr(hub, "download", lambda *_, **__: None)
        yield folder


def examine(folder, name, content: bytes) -> None:
    """A folder of that one record, as `verify`, `load` and a sweep see it."""
    path = folder / "runs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert all(isinstance(line, str) for line in verify.verify(folder).lines())
    survives(lambda: runs.read(path))
    survives(lambda: runs.is_completed(path))  # one of another version is neither moved nor taken for absent
    path.unlink(missing_ok=True)


@settings(max_examples=80)
@given(st.sampled_from(RECORDS).flatmap(lambda path: st.tuples(st.just(path), edited(path.read_bytes()))))
def test_any_edited_record(bare, case):
    path, content = case
    examine(bare, f"{path.parent.name}/{path.name}", content)


@st.composite
def signed(draw):
    """A record one or two of whose values are others, with the checksum that they give."""
    path = draw(st.sampled_from(RECORDS))
    record = json.loads(path.read_text())
    for _ in range(draw(st.integers(1, 2))):
        place, key = record, draw(st.sampled_from(list(record)))
        while isinstance(place[key], dict) and place[key] and draw(st.integers(0, 3)):
            place = place[key]
            key = draw(st.sampled_from(list(place)))
        place[key] = draw(JSON)
    return path, record


@settings(max_examples=150)
@given(signed())
def test_any_signed_record(bare, case):
    path, record = case
    try:
        content = json.dumps(record | {"checksum": checksum(record)}).encode()
    except ValueError:  # JSON has no word for that number
        return
    examine(bare, f"{path.parent.name}/{path.name}", content)


ROWS = [(f"text {i} with, a comma", ("good", "bad")[i % 2]) for i in range(12)]


def table_of(suffix) -> bytes:
    """Those rows in that form."""
    if suffix == ".jsonl":
        return "".join(json.dumps({"text": x, "label": y}) + "\n" for x, y in ROWS).encode()
    if suffix == ".conll":
        return "".join(f"Ada\tB-PER\nLovelace\tI-PER\nwrote\tO\n{i}\tO\n\n" for i in range(12)).encode()
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        stream = io.BytesIO()
        pq.write_table(pa.table({"text": [x for x, _ in ROWS], "label": [y for _, y in ROWS]}), stream)
        return stream.getvalue()
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t" if suffix == ".tsv" else ",").writerows([("text", "label"), *ROWS])
    return stream.getvalue().encode()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".conll", ".parquet"])
def test_any_edited_data_file(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(table_of(suffix))
    assert len(tasks.load(str(path)).train) > 0

    @settings(max_examples=60)
    @given(edited(table_of(suffix)))
    def edit(content):
        path.write_bytes(content)
        survives(lambda: tasks.load(str(path)))

    edit()


@pytest.mark.filterwarnings("ignore")
def test_any_edited_file_of_a_named_data_set(mirror, tmp_path, monkeypatch):
    (whole,) = (mirror / "datasets/stanfordnlp/sst2/data").glob("validation-*")
    folder = tmp_path / "datasets/stanfordnlp/sst2/data"
    folder.mkdir(parents=True)
    (folder / whole.name).write_bytes(whole.read_bytes())
    monkeypatch.setenv("LRTL_MIRROR", str(tmp_path))

    @settings(max_examples=60)
    @given(edited(whole.read_bytes()))
    def edit(content):
        (folder / "train-00000-of-00001.parquet").write_bytes(content)
        survives(lambda: tasks.load("sst2"))

    edit()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMATS)
def test_any_edited_image(form):
    picture = Image.fromarray(np.arange(16 * 12 * 3, dtype=np.uint8).reshape(16, 12, 3))
    stream = io.BytesIO()
    picture.save(stream, form)

    @settings(max_examples=40)
    @given(edited(stream.getvalue()))
    def edit(content):
        survives(lambda: encode_images([content], [0], 8))

    edit()

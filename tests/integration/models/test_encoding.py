import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from pictures import png_that_claims
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from torchvision.transforms import v2
from transformers import AutoTokenizer

from lrtl_utils.config import RunConfig
from lrtl_utils.data.splits import Examples
from lrtl_utils.errors import InputError
from lrtl_utils.measure import metrics as scoring
from lrtl_utils.measure.metrics import unpack_rows
from lrtl_utils.methods import loop as training
from lrtl_utils.models import catalog
from lrtl_utils.models.build import build
from lrtl_utils.models.encoding import (
    Collator,
    Reader,
    by_length,
    decode_image,
    encode_bags,
    encode_images,
    encode_text,
    encode_words,
    order,
    round_up,
)

CLS, SEP = 101, 102
RED, BLUE = (220, 30, 40), (20, 40, 210)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(catalog.find("minilm").files[0].parent)


def stacked(reader, data, **options):
    return reader.batch(data, np.arange(len(data)), **options)


def test_an_empty_text_is_kept_as_its_special_tokens(tokenizer):
    data = encode_text(["", "a film"], [0, 1], tokenizer)
    assert data.rows[0] == [CLS, SEP]
    batch = stacked(Reader("text", Collator(), tokenizer), data)
    assert batch["mask"].sum(1).tolist() == [2, 4]
    assert batch["targets"].tolist() == [0, 1]


@pytest.mark.parametrize("text", [None, float("nan"), 3, ["a", "list"], "a \ud800"])
def test_what_is_no_text_is_refused_with_its_row(tokenizer, text):
    with pytest.raises(InputError, match=r"Example 2 is .* where a text is expected"):
        encode_text(["a film", text], [0, 1], tokenizer)


def test_what_is_no_text_is_refused_by_bags_of_words_too():
    vectorizer = TfidfVectorizer().fit(["a good film"])
    with pytest.raises(InputError, match=r"Example 2 is None where a text is expected"):
        encode_bags(["a film", None], [0, 1], vectorizer)


@pytest.mark.parametrize("word", [None, 3, "\ud800"])
def test_what_is_no_word_is_refused_with_its_sentence(tokenizer, word):
    with pytest.raises(InputError, match=r"Sentence 2 has .* where a word is expected"):
        encode_words([["a"], ["a", word]], [[0], [0, 0]], tokenizer)


def test_a_sentence_without_words_is_refused(tokenizer):
    with pytest.raises(InputError, match="Sentence 2 has no words"):
        encode_words([["a"], []], [[0], []], tokenizer)


def test_texts_are_padded_to_a_multiple_of_eight_or_in_training_to_full_length(tokenizer):
    data = encode_text(["a", "a " * 9], [0, 1], tokenizer)
    padded = Reader("text", Collator(pad_id=7), tokenizer, max_length=32, plain=True)
    for reader, train in ((Reader("text", Collator(), tokenizer), True), (padded, False)):
        assert stacked(reader, data, train=train)["ids"].shape == (2, 16)
    batch = stacked(padded, data, train=True)
    assert batch["ids"].shape == (2, 32)
    assert batch["ids"][0, 3:].unique().tolist() == [7]
    assert batch["mask"].sum(1).tolist() == [3, 11]


@pytest.mark.parametrize(("tail", "begin", "end"), [(0.0, 3, 0), (0.5, 2, 1)])
def test_a_cut_text_keeps_its_closing_token_and_of_its_end_what_is_asked_for(tokenizer, tail, begin, end):
    data = encode_text(["one two three four five six", "one"], [0, 1], tokenizer)
    short = Reader("text", Collator(), tokenizer, max_length=4, tail=tail).cut(data)
    assert short.rows == [[*data.rows[0][:begin], *data.rows[0][-1 - end : -1], SEP], data.rows[1]]
    assert short.lengths.tolist() == [4, 3]


def test_only_a_sentence_that_is_cut_loses_a_word_for_the_closing_token(tokenizer):
    data = encode_words([["one", "two"], ["one", "two", "three", "four"]], [[1, 2], [1, 2, 3, 4]], tokenizer)
    ids, words = data.rows[0]
    bare = replace(data, rows=[(ids[:-1], words), data.rows[1]], lengths=np.array([3, 6]))  # closed by no token
    assert Reader("tokens", Collator(), tokenizer, max_length=3).cut(bare).rows[0] == (ids[:-1], words)


def test_a_word_without_sub_words_keeps_its_tag(tokenizer):
    data = encode_words([["one", "\u200d", "two"]], [[1, 2, 3]], tokenizer)
    batch = stacked(Reader("tokens", Collator(), tokenizer), data)
    assert batch["words"].tolist() == [[1, 1, 2]]
    assert batch["targets"].tolist() == [[1, 2, 3]]
    assert batch["word_mask"].all()


def test_words_past_the_cut_are_not_trained_on(tokenizer):
    reader = Reader("tokens", Collator(), tokenizer, max_length=4)
    batch = stacked(reader, reader.encode([["one", "two", "three", "four"], ["one"]], [[1, 2, 3, 4], [5]]))
    assert batch["word_mask"].tolist() == [[True, True], [True, False]]
    assert batch["targets"].tolist() == [[1, 2], [5, 0]]
    assert batch["words"].max() < 3


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_an_unknown_range_are_refused_and_not_black(mode):
    stream = io.BytesIO()
    Image.fromarray(np.ones((8, 8), {"F": np.float32, "I": np.int32}[mode])).save(stream, "TIFF")
    with pytest.raises(ValueError, match="whose range nobody knows; save it with 8 bits"):
        decode_image(stream.getvalue())


def test_a_sentence_longer_than_the_model_is_cut_and_its_end_counts_as_o():
    labels = ("O", "B-LOC", "I-LOC")
    config = RunConfig(dataset="entities_sample", model="minilm_crf", device="cpu", precision="fp32")
    model = build(config, "tokens", len(labels), catalog.find("minilm_crf"))
    with torch.no_grad():
        model.head[-1].bias[2] = 100.0  # answers I-LOC wherever it looks
    examples = Examples([["Lisbon", *["and"] * 600, "Lisbon"]], [[1, *[0] * 600, 1]], np.arange(1))
    rows = training.encode_training(model, examples, max_length=8192)
    assert rows.lengths.tolist() == [model.reader.limit] == [512]
    prediction = training.predict(model, examples, config)
    (tags,) = scoring.tag_names(prediction, [["O"] * 602], labels)
    assert tags == ["I-LOC"] * 510 + ["O"] * 92
    scores = scoring.evaluate(examples.targets, prediction, labels)
    assert unpack_rows(scores["counts"], 3)[0, 2] == 2  # the lost one is missed, not forgotten


def test_an_epoch_has_every_example_once_in_its_own_order():
    lengths = np.random.default_rng(0).integers(3, 60, 1000)
    orders = [order(lengths, 16, np.random.default_rng(seed), buckets=True) for seed in (0, 0, 1)]
    for batches in orders:
        assert sorted(np.concatenate(batches)) == list(range(1000))
        assert sorted(len(batch) for batch in batches) == [8, *[16] * 62]
        longest = [lengths[batch].max() for batch in batches]
        assert longest != sorted(longest)  # in no order of length
    assert all((a == b).all() for a, b in zip(orders[0], orders[1], strict=True))
    assert not (np.concatenate(orders[0]) == np.concatenate(orders[2])).all()


def test_buckets_save_padding():
    lengths = np.random.default_rng(0).integers(3, 100, 2000)

    def padded(buckets):
        batches = order(lengths, 16, np.random.default_rng(0), buckets=buckets)
        return sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()

    assert padded(buckets=True) < 1.1 < 1.6 < padded(buckets=False)


def test_prediction_takes_the_longest_first():
    lengths = np.array([3, 9, 5, 9, 1])
    assert [batch.tolist() for batch in by_length(lengths, 2)] == [[1, 3], [2, 0], [4]]
    assert list(by_length(np.array([], dtype=int), 2)) == []


def test_prediction_pads_no_row_by_more_than_a_tenth():
    lengths = np.random.default_rng(0).integers(3, 120, 100)
    batches = list(by_length(lengths, 32))
    assert sorted(np.concatenate(batches)) == list(range(100))
    padded = [(round_up(lengths[batch].min()), round_up(lengths[batch].max())) for batch in batches]
    assert all(0.9 * longest <= shortest for shortest, longest in padded)
    assert len(list(by_length(np.full(100, 50), 32))) == 4  # rows of one length fill their batches


@pytest.mark.parametrize("augment", [False, True])
def test_images_of_one_size_are_resized_in_one_call_to_the_same_values(augment, monkeypatch):
    rng, calls = np.random.default_rng(0), []
    images = list(rng.integers(0, 256, (5, 31, 45, 3), dtype=np.uint8))
    odd = rng.integers(0, 256, (33, 40, 3), dtype=np.uint8)
    whole = v2.functional.resize
    monkeypatch.setattr(v2.functional, "resize", lambda *given, **named: calls.append(1) or whole(*given, **named))
    collate = Collator(image_size=48, augment=augment)
    alike, mixed = (encode_images(rows, [0] * len(rows), 48) for rows in (images, [*images, odd]))
    batches = []
    for rows in (alike, mixed):
        torch.manual_seed(0)  # of the crops
        batches.append(collate(rows, np.arange(len(rows)), train=True)["pixels"])
    assert len(calls) == 1 + 6
    assert torch.equal(batches[0], batches[1][:5])


def halves(mode, size=(12, 10)):
    """A picture whose left half is red and whose right half is blue, in that mode."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    return picture.quantize(8) if mode == "P" else picture.convert(mode)


def saved(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def colours(image):
    """The first colour of the left half and the last of the right one, as the model will see them."""
    (row,) = encode_images([image], [0], 64).rows
    assert row.dtype == torch.uint8
    assert row.shape[0] == 3
    return row[:, 0, 0].tolist(), row[:, -1, -1].tolist()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("P", "GIF"), ("CMYK", "TIFF"), ("CMYK", "JPEG"), ("RGB", "WEBP")],
)
def test_colours_survive_every_mode(mode, kind):
    lossy = 40 if kind in {"JPEG", "WEBP"} else 3
    left, right = colours(saved(halves(mode), kind))
    assert left == pytest.approx(RED, abs=lossy)
    assert right == pytest.approx(BLUE, abs=lossy)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_images_become_rgb(mode):
    left, right = colours(saved(Image.linear_gradient("L").convert(mode)))
    assert left == pytest.approx([0, 0, 0], abs=3)
    assert right == pytest.approx([255, 255, 255], abs=3)


def test_sixteen_bits_are_scaled_to_eight():
    ramp = np.linspace(0, 65535, 80).astype(np.uint16).reshape(8, 10)
    (row,) = encode_images([saved(Image.fromarray(ramp))], [0], 64).rows
    assert row[0].numpy() == pytest.approx(ramp / 257, abs=1)
    assert (row[0] == row[2]).all()


@pytest.mark.parametrize(
    "picture",
    [
        saved(Image.new("RGBA", (4, 4), (0, 0, 0, 0))),
        saved(Image.new("P", (4, 4), 0), transparency=0),
        saved(Image.new("L", (4, 4), 0), transparency=0),
        saved(Image.new("RGB", (4, 4), 0), transparency=(0, 0, 0)),
    ],
    ids=["RGBA", "P", "L", "RGB"],
)
def test_what_is_transparent_becomes_white(picture):
    assert colours(picture) == ([255, 255, 255], [255, 255, 255])


def test_a_picture_is_turned_as_its_camera_says():
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    assert colours(saved(halves("RGB"), exif=exif)) == (list(BLUE), list(RED))


def test_arrays_of_one_channel_are_images_too():
    (row,) = encode_images([np.arange(64, dtype=np.uint8).reshape(8, 8)], [0], 64).rows
    assert row.shape == (3, 8, 8)
    assert row[1].flatten().tolist() == list(range(64))


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"no image at all",
        saved(halves("RGB"))[:60],
        saved(halves("RGB"), "JPEG")[:300],
        saved(halves("RGB", (64, 64)), "GIF")[:40],
        png_that_claims(8, 8),
        png_that_claims(60_000, 60_000),
        saved(halves("RGB"), exif=b"Exif\0\0II*\0"),
        # The place of its pixels is of the type of a text.
        saved(halves("RGB"), "TIFF").replace(b"\x11\x01\x04\x00", b"\x11\x01\x02\x00"),
        None,
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "cut gif", "no pixels", "huge", "cut exif", "damaged tiff", "none"],
)
def test_an_image_that_cannot_be_decoded_is_named(image):
    with pytest.raises(InputError, match="Image 2 cannot be decoded"):
        encode_images([saved(halves("RGB")), image], [0, 0], 32)


def test_an_image_that_would_be_too_large_once_resized_is_refused():
    """A file of 80 bytes: 2 × 4,000 pixels, which a short side of 224 would make 224 × 448,000."""
    thin = saved(Image.new("1", (2, 4000)))
    with pytest.raises(
        InputError, match=r"Image 1 .* would have 224 × 448000 pixels, more than the 50,000,000 allowed"
    ):
        encode_images([thin], [0], 224)
    assert tuple(encode_images([thin], [0], 32).rows[0].shape) == (3, 4000, 2)


def test_large_images_are_shrunk_at_once_and_small_ones_kept():
    big, small = saved(halves("RGB", (300, 200))), saved(halves("RGB", (30, 20)))
    assert [tuple(row.shape) for row in encode_images([big, small], [0, 0], 50).rows] == [(3, 50, 75), (3, 20, 30)]


def test_image_batches_have_the_models_size_and_statistics():
    collate = Collator(image_size=16, mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 2.0))
    data = encode_images([saved(Image.new("RGB", size, "white")) for size in ((40, 20), (8, 9))], [1, 0], 16)
    pixels = stacked(Reader("image", collate), data)["pixels"]
    assert pixels.shape == (2, 3, 16, 16)
    assert pixels[1, :, 5, 5].tolist() == pytest.approx([1.0, 1.5, 0.5])


def test_only_training_images_are_augmented():
    reader = Reader("image", Collator(image_size=32, augment=True))
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    data = encode_images([noise], [0], 32)
    torch.manual_seed(0)
    plain, again = (stacked(reader, data)["pixels"] for _ in range(2))
    seen = [stacked(reader, data, train=True)["pixels"] for _ in range(8)]
    assert torch.equal(plain, again)
    assert sum(torch.equal(plain, other) for other in seen) <= 1
    assert all(other.shape == plain.shape for other in seen)


def test_bags_are_dense_only_in_a_batch():
    vectorizer = TfidfVectorizer().fit(["a good film", "a bad play"])
    data = encode_bags(["good film", ""], [1, 0], vectorizer)
    bag = stacked(Reader("bag", Collator(), vectorizer), data)["bag"]
    assert bag.dtype == torch.float32
    assert bag.norm(dim=1).tolist() == pytest.approx([1, 0])

"""The look that all figures share, and the pictures of one run."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv, to_rgb

from lrtl_utils.methods import METHODS
from lrtl_utils.study import figures


def test_methods_differ_without_colour_and_none_is_faint():
    assert len(set(figures.MARKS.values())) == len(METHODS)
    looks = itertools.islice(zip(itertools.cycle(figures._PALETTE), itertools.cycle(figures._MARKS), strict=False), 90)
    assert len(set(looks)) == 90  # of methods that are added
    for colour in figures.COLOURS.values():
        grey = np.dot(to_rgb(colour), (0.299, 0.587, 0.114))  # as a printer without colour has it
        assert grey < 0.7, rgb_to_hsv(to_rgb(colour))


def test_a_picture_has_the_same_bytes_for_the_same_numbers_and_names_no_software(tmp_path):
    for name in ("a", "b"):
        figure, ax = plt.subplots()
        ax.plot([1, 2])
        figures.save(figure, [tmp_path, tmp_path / "other"], name)
    first, second = ((tmp_path / "figures" / f"{name}.png").read_bytes() for name in ("a", "b"))
    assert first == second
    assert b"matplotlib" not in first.lower()
    assert not (tmp_path / "other").exists()


def test_without_a_figure_nothing_is_written_and_no_earlier_one_stays(tmp_path):
    assert figures.save(None, tmp_path, "nothing") is None
    assert not list(tmp_path.iterdir())
    figures.save(plt.figure(), tmp_path, "something")
    assert figures.save(None, tmp_path, "something") is None
    assert not list(tmp_path.rglob("*.png"))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")

"""The look that all figures share, and the pictures of one run."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lrtl_utils.study import figures


def test_tiles_and_curves_draw_what_they_are_given():
    _, axes = plt.subplots(1, 2)
    figures.tiles([np.zeros((8, 8), np.uint8)] * 2, ["a", "b"], axes)
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    curve = [{"epoch": i, "loss": 1 / i, "validation_loss": None} for i in (1, 2)]
    ax = figures.learning_curve(curve, plt.subplots()[1])
    assert list(ax.get_lines()[0].get_ydata()) == [1, 0.5]
    plt.close("all")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")

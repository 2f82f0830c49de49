"""The pictures of one run."""

import matplotlib.pyplot as plt
import numpy as np

from lrtl_utils.study import figures


def test_tiles_and_curves_draw_what_they_are_given():
    ax = figures.tiles([np.zeros((8, 4), np.uint8)] * 3, ["a", "b", "c"], plt.subplots()[1], columns=2)
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c"]
    assert [image.get_extent() for image in ax.images] == [[0, 0.4, 0.8, 0], [1, 1.4, 0.8, 0], [0, 0.4, 1.8, 1]]
    curve = [{"epoch": i, "loss": 1 / i, "validation_loss": None} for i in (1, 2)]
    ax = figures.learning_curve(curve, plt.subplots()[1])
    assert list(ax.get_lines()[0].get_ydata()) == [1, 0.5]
    plt.close("all")

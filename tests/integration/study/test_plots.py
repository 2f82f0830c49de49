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


def test_many_classes_and_broken_images_take_neither_memory_nor_the_run():
    ax = figures.confusion(np.eye(400, dtype=int), [f"class {i}" for i in range(400)], plt.subplots()[1])
    assert len(ax.texts) == 0
    ax = figures.confusion(np.eye(3, dtype=int), "abc", plt.subplots()[1])
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["1"] * 3
    ax = figures.tiles([np.zeros((8, 8), np.uint8), b"no image"], ["whole", "broken"], plt.subplots()[1])
    assert [text.get_text() for text in ax.texts] == ["whole"]
    ax = figures.class_balance([0, 1], [f"class {i}" for i in range(400)], plt.subplots()[1])
    assert [*ax.get_yticks()] == []


def test_a_class_named_by_dollars_is_no_formula():
    figure, axes = plt.subplots(3)
    figures.class_balance([0, 1], ["$$", "$50-$100"], axes[0])
    figures.confusion(np.eye(2, dtype=int), ["$$", "$50-$100"], axes[1])
    figures.tiles([np.zeros((8, 8), np.uint8)], ["$$ or $"], axes[2])
    figure.canvas.draw()
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [
        r"\$\$",
        r"\$50-\$100",
    ]  # as matplotlib escapes
    plt.close("all")

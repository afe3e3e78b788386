"""Confusion matrices stay small and readable, whatever the classes are called and however many they are."""

import numpy as np
import pytest

from beans_exp.tracking.confusion import LISTED, confusion_matrix, most_confused
from beans_exp.tracking.figures import png
from tests.tracking.contract import CLASSES


def test_the_confusion_matrix_counts_labels_by_prediction() -> None:
    labels, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    (axes,) = confusion_matrix(labels, predicted, CLASSES).axes
    counts = np.asarray(axes.images[0].get_array())
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert "2 of 4 right" in axes.get_title()


@pytest.mark.parametrize("count", [3, 40])
def test_names_of_classes_are_shown_as_they_are(count: int) -> None:
    classes = ["x$\\frac$y", "a\nb", "n" * 500, *(f"$c{number}" for number in range(3, count))]
    labels = np.arange(count)
    figure = confusion_matrix(labels, np.roll(labels, 1), classes)
    assert png(figure).startswith(b"\x89PNG")
    texts = [text for axes in figure.axes for text in axes.get_xticklabels()]
    cells = [cell.get_text() for axes in figure.axes for table in axes.tables for cell in table.get_celld().values()]
    names = {text.get_text() for text in (*texts, *cells)}
    assert "x$\\frac$y" in names and "a b" in names and "n" * 23 + "…" in names


@pytest.mark.parametrize("count", [26, 820])
def test_many_classes_are_a_heat_map_of_fixed_size_with_the_most_confused_pairs(count: int) -> None:
    labels = np.arange(count).repeat(2)
    predicted = labels.copy()
    predicted[[6, 7, 11]] = 1
    figure = confusion_matrix(labels, predicted, [f"class {number}" for number in range(count)])
    heat, pairs = figure.axes
    assert tuple(figure.get_size_inches()) == (13.0, 7.5) and not heat.texts
    cells = pairs.tables[0].get_celld()
    shown = [[cells[row, column].get_text().get_text() for column in range(3)] for row in (1, 2)]
    assert shown == [["class 3", "class 1", "2"], ["class 5", "class 1", "1"]]
    assert len(png(figure)) < 1_000_000


def test_the_list_of_confused_pairs_is_bounded() -> None:
    counts = np.ones((100, 100), dtype=int)
    assert len(most_confused(counts, [str(number) for number in range(100)])) == LISTED
    assert most_confused(np.eye(3, dtype=int), CLASSES) == []

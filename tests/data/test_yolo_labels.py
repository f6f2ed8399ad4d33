"""Lines of YOLO's labels: boxes, polygons and keypoints, and what is none of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.data.yolo import Label, is_yolo, parse_label

NAMES = {0: "red", 1: "blue"}


@given(
    width=st.integers(1, 10_000),
    height=st.integers(1, 10_000),
    parts=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_box_comes_back_from_its_label(width: int, height: int, parts: tuple[float, ...]) -> None:
    x1, x2 = sorted(part * width for part in parts[:2])
    y1, y2 = sorted(part * height for part in parts[2:])
    centre = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    line = " ".join(["1", *map(repr, centre)])
    label = parse_label(line, NAMES)
    assert label.category == 1
    assert label.box((width, height)) == pytest.approx((x1, y1, x2 - x1, y2 - y1), abs=1e-9 * max(width, height))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=9))
def test_a_polygon_becomes_the_box_around_it(points: list[tuple[float, float]]) -> None:
    label = parse_label("0 " + " ".join(f"{x!r} {y!r}" for x, y in points), NAMES)
    left, top, width, height = label.box((640, 480))
    assert label.is_polygon
    for x, y in points:
        assert left - 1e-9 <= x * 640 <= left + width + 1e-9
        assert top - 1e-9 <= y * 480 <= top + height + 1e-9
    assert min(x for x, _ in points) * 640 == left
    assert min(y for _, y in points) * 480 == top


def test_keypoints_are_no_polygon() -> None:
    assert parse_label("0 .5 .5 .2 .2 .4 .4 2 .6 .6 0", NAMES, keypoints=6) == Label(0, (0.5, 0.5, 0.2, 0.2))
    with pytest.raises(ValueError, match="5 columns, expected 5 for class and box, and 6 for the keypoints"):
        parse_label("0 .5 .5 .2 .2", NAMES, keypoints=6)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.1", "4 columns, expected 5"),
        ("0 0.5 0.5 0.1 0.1 0.99", "6 columns, expected 5"),
        ("0 0.5 0.5 0.1 0.1 0.1 0.1 0.1", "8 columns"),
        ("2 0.5 0.5 0.1 0.1", "no class 2: the names of the data set have 0 … 1"),
        ("-1 0.5 0.5 0.1 0.1", "no class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "no class 0.5"),
        ("nan 0.5 0.5 0.1 0.1", "no class nan"),
        ("red 0.5 0.5 0.1 0.1", "'red' is not a number"),
        ("0 320 0.5 0.1 0.1", "320 lies outside 0 … 1"),
        ("0 0.5 0.5 -0.2 0.1", "-0.2 lies outside"),
        ("0 0.5 0.5 nan 0.1", "nan lies outside"),
        ("0 0.5 0.5 1.02 0.1", "1.02 lies outside"),
    ],
)
def test_a_line_that_is_no_label_says_why(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_label(line, NAMES)


def test_rounded_coordinates_and_classes_as_floats_are_taken() -> None:
    assert parse_label(" 1.0 0.5 0.5 1.000001 1 \r", NAMES) == Label(1, (0.5, 0.5, 1.000001, 1.0))


@pytest.mark.parametrize(
    ("line", "is_label"),
    [
        ("0 .5 0.5 1. 1", True),
        ("3 5e-1 5E+0 -0.5 1e0 0.5 0.5\n", True),
        ("0.0 .5 .5 .2 .2\n", True),
        ("+1 +0.5 0.5 0.2 0.2", True),
        ("\n \n0 0.5 0.5 0.1 0.1\n", True),
        ("", False),
        ("\n", False),
        ("-1 0.5 0.5 0.1 0.1", False),
        ("0.5 0.5 0.5 0.1 0.1", False),
        ("nan 0.5 0.5 0.1 0.1", False),
        ("a 0.5 0.5 0.1 0.1", False),
        ("0 0.5 0.5 0.1", False),
        ("0 0.5 0.5 . 0.1", False),
        ("7 " + "12345678 " * 200 + "x", False),  # at once, not after as many tries as there are ways to part digits
        ("7 " + "0.345678 " * 200 + "x", False),
    ],
)
def test_a_text_file_of_labels_is_told_by_its_first_line(line: str, is_label: bool, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(line)
    assert is_yolo(file) is is_label

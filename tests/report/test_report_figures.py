"""What is written into figures, and where."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from tuner.postprocess.curve import Curve
from tuner.postprocess.operating_point import OperatingPoint
from tuner.report import anchor_plot, curves, fonts
from tuner.report.figures import save, small_figure


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    saved: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        saved.append(figure)
        return save(figure, path)

    for module in (anchor_plot, curves):
        monkeypatch.setattr(module, "save", keep)
    return saved


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without fonts of its own."""
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    fonts._fonts_of.cache_clear()
    yield
    fonts._fonts_of.cache_clear()


@pytest.mark.parametrize("confidence", [0.1, 0.5, 0.9])
def test_the_legend_covers_no_part_of_the_curve(confidence: float, tmp_path: Path, figures: list[Figure]) -> None:
    counts = np.arange(20)
    curve = Curve(np.linspace(1, 0, 20), counts, 9 * counts, positives=100, images=5, miscounted=10 * counts)
    point = OperatingPoint(nms_iou=0.6, confidence=confidence, precision=0.1, recall=0.1, f1=0.1)
    curves.draw_precision_recall(curve, point, tmp_path / "curve.png")
    axes = figures[0].axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    assert figures[0].bbox.fully_contains(*legend.get_window_extent().min)
    assert figures[0].bbox.fully_contains(*legend.get_window_extent().max)


@pytest.mark.parametrize("high", [6, 9, 14, 25, 60, 99, 240, 600, 1900])
@pytest.mark.parametrize("low", [4, 5.5, 41])
def test_numbers_on_the_axes_of_anchors_are_plain_and_apart(
    low: float, high: float, tmp_path: Path, figures: list[Figure]
) -> None:
    sizes = np.geomspace((low, low), (high, max(low + 1, high / 3)), 30)
    sets = {"kmeans-iou": (((low, low), (high, high)),)}
    anchor_plot.draw_anchor_sets(sizes, np.zeros(30, np.int64), ["cell"], sets, tmp_path / "anchors.png")
    axes = figures[0].axes[0]
    for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
        assert not any(label.get_text() for label in axis.get_ticklabels(minor=True))
        first, last = sorted(axis.get_view_interval())
        ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        labels = [label for place, label in ticks if first <= place <= last]
        assert len(labels) >= 2
        assert all(float(label.get_text()) > 0 for label in labels)
        spans = sorted(label.get_window_extent().get_points()[:, side].tolist() for label in labels)
        assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_a_character_that_no_font_has_is_a_box_without_a_warning(tmp_path: Path, no_fonts: None) -> None:
    assert _written("猫 $a_{b$ é", tmp_path)[0] == "□ $a_{b$ é"


def test_a_font_of_the_machine_is_used_where_it_has_the_character(
    tmp_path: Path, no_fonts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    found = [str(tmp_path / "damaged.ttf"), str(_font(tmp_path, "猫"))]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: found)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    assert _written("猫犬", tmp_path) == ("猫□", ["sans-serif", "Cats"])
    assert _written("cat é", tmp_path) == ("cat é", ["sans-serif"])


def _written(name: str, folder: Path) -> tuple[str, list[str]]:
    """What a figure shows of a name, and the families of its fonts."""
    figure, axes = small_figure("x", "y")
    axes.plot([0, 1], [0, 1], label=name)
    legend = axes.legend()
    save(figure, folder / "figure.png")
    (text,) = legend.get_texts()
    assert isinstance(text, Text)
    return text.get_text(), text.get_fontfamily()


def _font(folder: Path, letter: str) -> Path:
    """A font of one character."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((500, 500))
    pen.lineTo((500, 0))
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord(letter): "cat"})
    builder.setupGlyf({".notdef": pen.glyph(), "cat": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (600, 0), "cat": (600, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Cats", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(folder / "cats.ttf")
    return folder / "cats.ttf"

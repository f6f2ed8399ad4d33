"""What `tuner train` shows while it trains: each epoch, and how far a long one is."""

import io

import pytest
from rich.console import Console

from tests.studies.study_cases import result
from tuner.cli import common
from tuner.cli.epochs import EpochProgress


def test_a_terminal_shows_how_far_the_epoch_is() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    with EpochProgress(4, judged=True, console=console) as progress:
        progress.show(result(1, 0.25))
        progress.alive()
        progress.alive(3, 5)  # too soon after that
    with EpochProgress(4, judged=True, console=console) as progress:
        progress.show(result(1, 0.25))
        progress.alive(4, 5)
    assert "val mAP 0.250 · training 80%" in screen.getvalue()
    assert "60%" not in screen.getvalue()


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, ["waiting", "sweeping 60% (3 of 5)"]), (60.0, [])])
def test_elsewhere_a_line_says_it_where_an_epoch_takes_long(
    monkeypatch: pytest.MonkeyPatch, seconds: float, lines: list[str]
) -> None:
    monkeypatch.setattr(common, "LINE_SECONDS", seconds)
    screen = io.StringIO()
    for counted in ((0, 5, "waiting"), (3, 5, "sweeping")):
        with EpochProgress(4, judged=True, console=Console(file=screen)) as progress:
            progress.alive(*counted)
    assert screen.getvalue().splitlines() == lines


def test_the_time_left_is_known_however_long_an_epoch_takes() -> None:
    screen, now = io.StringIO(), 0.0
    console = Console(file=screen, force_terminal=True, width=120, color_system=None, get_time=lambda: now)
    with EpochProgress(4, judged=True, console=console) as progress:
        for epoch in (1, 2):
            now += 60
            progress.show(result(epoch, 0.25))
    assert "0:02:00 0:02:00" in screen.getvalue()  # passed, and to come

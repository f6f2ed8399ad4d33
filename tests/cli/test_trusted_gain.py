"""Every command shows one gain: the confirmed one, else that over the measured mean, else that of one run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.project import Project
from tests.studies.study_cases import EPOCHS, WORKER, train
from tuner.cli.work import cut_short
from tuner.config.load import load_study_spec
from tuner.studies.opening import create_or_open
from tuner.studies.study import Study
from tuner.studies.trust.confirm import plan_confirmation
from tuner.studies.trust.noise import plan_baseline
from tuner.studies.trust.repeats import Repeats, find_repeats
from tuner.workers.observer import WorkerReport

SHOWN = ("status", "best")


@pytest.fixture
def study(request: pytest.FixtureRequest, project: Project) -> Iterator[Study]:
    """The default config's run has a value of 0.30, the best trial's 0.36; constraints may be given as parameter."""
    project.write(defaults={"epochs": EPOCHS, "image_size": 64}, constraints=getattr(request, "param", []))
    study = create_or_open(load_study_spec(project.folder / "study.yaml", {"storage": project.storage}))
    for value in (0.30, 0.36):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        train(study, assignment, value)
    yield study
    study.close()


def repeat(repeats: Repeats, values: dict[int, list[float]]) -> None:
    """Train what is planned; the values by trial and seed, which counts from 1."""
    while (run := repeats.next_trial(WORKER)) is not None:
        train(repeats, run, values[run.params["trial"]][run.params["seed"] - 1])


def gain_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.split()[0] in ("best", "default", "gain")]


def test_without_repeats_it_is_one_run_over_another(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in SHOWN:
        said = project.main(capsys, command, "cells")
        assert gain_lines(said) == [
            "best       mAP 0.3600, trial 1",
            "default    mAP 0.3000",
            "gain       +0.0600, +20.0%",
        ]
        assert "one run each: the best of several noisy runs looks better than it is" in said
        found = json.loads(project.main(capsys, command, "cells", "--json"))["gain"]
        assert (found["kind"], found["trial"], found["default"], found["default_runs"]) == ("run", 1, 0.3, 1)
        assert found["value"] == pytest.approx(0.06)


def test_a_list_shows_the_means_of_fresh_seeds_where_there_are_some(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "│ 0.3600 │  0.3000 │" in project.main(capsys, "list")
    assert json.loads(project.main(capsys, "list", "--json"))[0]["confirmation"] is None
    repeat(plan_baseline(study, 3), {0: [0.32, 0.34]})
    assert "│ 0.3600 │  0.3200 │" in project.main(capsys, "list")  # of one run, and of three
    repeat(plan_confirmation(study, 1, 3), {0: [0.32, 0.34, 0.30], 1: [0.33, 0.35, 0.31]})
    (confirmed,) = (found["confirmation"] for found in json.loads(project.main(capsys, "list", "--json")))
    best, default = confirmed["estimates"]
    shown = [f"{one['mean']:.4f} ({one['low']:.4f} … {one['high']:.4f})" for one in (best, default)]
    assert [text[:6] for text in shown] == ["0.3300", "0.3200"]
    said = project.main(capsys, "list")
    assert f"│ {shown[0]} │ {shown[1]} │" in said
    assert "With an interval: the mean of fresh seeds" in said


def test_with_repeats_of_the_default_config_it_is_over_their_mean(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    repeat(plan_baseline(study, 3), {0: [0.32, 0.34]})
    for command in SHOWN:
        said = project.main(capsys, command, "cells")
        assert gain_lines(said) == [
            "best       mAP 0.3600, trial 1, one run",
            "default    mAP 0.3200, mean of 3 runs",
            "gain       +0.0400, +12.5%",
        ]
        assert "one run of trial 1 over that mean" in said
        assert "the best trial's gain of 0.0400 is 2.0 times" in said
        found = json.loads(project.main(capsys, command, "cells", "--json"))
        assert (found["gain"]["kind"], found["gain"]["default_runs"]) == ("mean", 3)
        assert found["gain"]["value"] == pytest.approx(0.04)
        assert found["default_value"] == 0.3  # of the default config's own trial, as ever


def test_a_best_trial_below_the_mean_gains_nothing(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    repeat(plan_baseline(study, 3), {0: [0.40, 0.41]})
    for command in SHOWN:
        said = project.main(capsys, command, "cells")
        assert gain_lines(said)[1:] == [
            "default    mAP 0.3700, mean of 3 runs",
            "gain       none: no trial was better than that mean",
        ]


def test_a_confirmed_gain_takes_the_place_of_all_others(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    repeat(plan_confirmation(study, 1, 3), {0: [0.30, 0.31, 0.32], 1: [0.33, 0.35, 0.34]})
    for command in SHOWN:
        said = project.main(capsys, command, "cells")
        best, default, gain = gain_lines(said)
        assert best == "best       mAP 0.3600, trial 1, one run"
        assert default == "default    mAP 0.3100, mean of 3 fresh seeds"
        assert gain.startswith("gain       +0.0300, +9.7%, trial 1 in the mean of 3 fresh seeds: at least +0.0")
        assert "+20.0%" not in said
        assert "the best trial's gain" not in said  # that of one run
        found = json.loads(project.main(capsys, command, "cells", "--json"))
        assert (found["gain"]["kind"], found["gain"]["trial"]) == ("confirmed", 1)
        assert found["gain"]["at_least"] == found["confirmation"]["gain_at_least"]


def test_where_nothing_was_confirmed_no_gain_is_shown(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    repeat(plan_confirmation(study, 1, 2), {0: [0.35, 0.36], 1: [0.33, 0.34]})
    for command in SHOWN:
        said = project.main(capsys, command, "cells")
        assert gain_lines(said)[1:] == [
            "default    mAP 0.3550, mean of 2 fresh seeds",
            "gain       none: no trial was better in the mean of 2 fresh seeds",
        ]
        assert "nothing was better than the default config" in said
    # More seeds are proposed as they can be typed.
    said = project.call("confirm", "cells", "--top", "1", "--seeds", "2")
    assert "included: tuner confirm cells --top 1 --seeds 4\n" in said


@pytest.mark.parametrize("study", [["map50 <= 0.40"]], indirect=True)
@pytest.mark.parametrize(
    ("default", "why", "verdict"),
    [
        (
            0.35,
            "no trial that keeps the constraints was better in the mean of 2 fresh seeds",
            "nothing that keeps the constraints was better than the default config",
        ),
        (0.45, "no config keeps the constraints on average", "no config keeps the constraints on average"),
    ],
)
def test_a_better_trial_that_breaks_the_constraints_is_not_denied(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str], default: float, why: str, verdict: str
) -> None:
    repeat(plan_confirmation(study, 1, 2), {0: [default, default + 0.01], 1: [0.46, 0.48]})
    for command in SHOWN:
        said = project.main(capsys, command, "cells")
        assert gain_lines(said)[-1] == f"gain       none: {why}"
        assert f"confirmed  {verdict}\n" in said
        found = json.loads(project.main(capsys, command, "cells", "--json"))["gain"]
        assert (found["trial"], found["value"], found["why_none"]) == (None, None, why)


@pytest.mark.parametrize("study", [["map50 <= 0.35"]], indirect=True)
def test_a_better_run_that_breaks_the_constraints_is_not_denied(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    said = project.main(capsys, "status", "cells")
    assert "gain       none: no trial that keeps the constraints was better than the default config\n" in said
    repeat(plan_baseline(study, 3), {0: [0.31, 0.32]})
    said = project.main(capsys, "status", "cells")
    assert "gain       none: no trial that keeps the constraints was better than that mean\n" in said


@pytest.mark.parametrize("study", [["map50 >= 0.33"]], indirect=True)
def test_a_default_config_that_breaks_the_constraints_is_named_beside_the_gain(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in SHOWN:
        assert gain_lines(project.main(capsys, command, "cells")) == [
            "best       mAP 0.3600, trial 1",
            "default    mAP 0.3000, does not keep map50 >= 0.33 (0.3)",
            "gain       +0.0600, +20.0%",
        ]
        found = json.loads(project.main(capsys, command, "cells", "--json"))["gain"]
        assert found["default_breaks"] == "map50 >= 0.33 (0.3)"


@pytest.mark.parametrize("metric", ["map", "-1*map"])
def test_what_is_worse_than_a_default_config_that_breaks_the_constraints_is_no_gain(
    project: Project, capsys: pytest.CaptureFixture[str], metric: str
) -> None:
    """Whatever the direction."""
    name, values = "worse", (0.36, 0.30)
    changes = {"objective": {"metric": metric}, "constraints": ["map50 <= 0.33"], "name": name}
    project.write(defaults={"epochs": EPOCHS, "image_size": 64}, **changes)
    study = create_or_open(load_study_spec(project.folder / "study.yaml", {"storage": project.storage}))
    for value in values:
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        train(study, assignment, value)
    none = "gain       none: no trial that keeps the constraints was better"
    for command in SHOWN:
        lines = gain_lines(project.main(capsys, command, name))
        assert lines[1].startswith("default    ")
        assert lines[2] == f"{none} than the default config, which does not keep them"
    repeat(plan_confirmation(study, 1, 2), {0: [values[0]] * 2, 1: [values[1]] * 2})
    for command in SHOWN:
        lines = gain_lines(project.main(capsys, command, name))
        assert lines[2] == f"{none} in the mean of 2 fresh seeds than the default config, which does not keep them"
        found = json.loads(project.main(capsys, command, name, "--json"))["gain"]
        assert (found["trial"], found["value"]) == (None, None)
    study.close()


def test_a_confirmation_that_is_cut_short_shows_what_is_there(study: Study, project: Project) -> None:
    repeats = plan_confirmation(study, 1, 2)
    repeat(repeats, {0: [0.30, 0.31], 1: [0.33, 0.35]})
    plan_confirmation(study, 1, 3)
    project.misbehave(all={"seconds": 60})
    arguments = ("confirm", "cells", "--top", "1", "--seeds", "3", "--trainer", "fake_trainer:train")
    said = project.call(*arguments, "--timeout", "1s")
    assert "mean of 2 fresh seeds" in said
    assert "(so far: 2 runs are to come)" in said
    assert "Not finished; the same command goes on." in said
    # Its time may be up in the second in which its last run ends.
    late = WorkerReport("timeout", "", 2, 0, 0, 0, 8, 1.0, 1.0)
    everything = find_repeats(study)
    assert everything is not None
    assert cut_short(late, everything)
    assert not cut_short(late, repeats)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.33, 0.35, 0.34], "+0.0300 over the default config in the mean of 3 fresh seeds"),
        ([0.29, 0.28, 0.30], "0.0200 below the default config in the mean of 3 fresh seeds"),
        ([0.31, 0.30, 0.321], "+0.0003 over the default config in the mean of 3 fresh seeds"),
    ],
)
def test_an_export_speaks_of_the_confirmed_difference(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str], values: list[float], said: str
) -> None:
    repeat(plan_confirmation(study, 1, 3), {0: [0.30, 0.31, 0.32], 1: values})
    out = project.main(capsys, "export", "cells", "--trial", "1", "-o", "one.yaml")
    assert f"one.yaml: trial 1, map 0.3600, {said}\n" in out
    equal = "The default config, about equal, is exported by --trial 0." in out
    assert equal == ("+0.0003" in said)
    assert "trial 0, map 0.3000, the default config" in project.main(
        capsys, "export", "cells", "--trial", "0", "-o", "default.yaml"
    )


def test_a_loss_is_not_worded_as_a_gain(study: Study, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    train(study, assignment, 0.29)
    said = project.main(capsys, "export", "cells", "--trial", "2", "-o", "worse.yaml")
    assert "trial 2, map 0.2900, 0.0100 below the default config\n" in said


def test_a_trial_that_is_not_there_is_answered_with_those_that_are(
    study: Study, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (("show", "cells", "99"), ("stop", "cells", "99"), ("export", "cells", "--trial", "99", "-o", "x")):
        assert "study 'cells' has no trial 99; it has 0 … 1" in project.main(capsys, *command, code=1)

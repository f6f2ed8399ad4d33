"""`tuner init` as tests call it, and the study that it writes."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from tuner.cli.app import app
from tuner.config.errors import TunerError
from tuner.config.load import base_config, load_study_spec
from tuner.config.study import StudySpec
from tuner.data.coco import load_dataset
from tuner.space.load import load_space


def run_init(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["init", *map(str, arguments), "--device", "cpu"], catch_exceptions=True)
    if isinstance(result.exception, TunerError):
        raise result.exception
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def spec_of(path: Path) -> StudySpec:
    """The study of a file that must run as it is: data, defaults and space are valid and go together."""
    spec = load_study_spec(path)
    load_dataset(spec.data)
    load_space(spec.space).default_config(base_config(spec))
    return spec

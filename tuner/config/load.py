"""Reading study files: `load_study_spec`, the study's default config (`base_config`), and writing specs out."""

from __future__ import annotations

import re
import reprlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuner.config.errors import ConfigError
from tuner.config.objective import Objective
from tuner.config.paths import expanded, is_folder
from tuner.config.problems import located
from tuner.config.source import Section, read_yaml, where
from tuner.config.study import DataSpec, StudySpec
from tuner.config.trial import TrialConfig
from tuner.config.weights import NAMED, weights_file
from tuner.config.writing import dump_yaml

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"^(?:\d+(?:\.\d+)?[dhms]\s*)+$")


def load_study_spec(path: Path | str, overrides: Mapping[str, Any] | None = None) -> StudySpec:
    """Read and check a study file.

    Relative paths in the file start from its folder: `data.root`, `defaults.weights` and `space`, when it
    is a path, come back absolute or (the space) as the mapping that the file held.

    Args:
        path: The YAML file.
        overrides: Values that replace those of the file, by dotted name, such as
            `{"budget.trials": 10, "budget.timeout": "2h", "defaults.epochs": 20}`; None leaves the file's.

    Raises:
        ConfigError: Names the file, line and key of each problem.
    """
    path = Path(path)
    data = read_yaml(path, hint="Write a study file with `tuner init DIR`, or check the path.")
    if "provenance" in data:
        raise ConfigError(
            f"{path} is a production config, not a study file",
            hint=f"Train it with `tuner train {shlex.quote(str(path))} -o model/`.",
        )
    for name in [name for name, value in data.items() if value is None]:
        del data[name]  # a key whose lines are all commented out
    for name, value in (overrides or {}).items():
        if value is not None:
            _override(data, name, value)
    try:
        _read_duration(data)
        spec = StudySpec.model_validate(data)
    except ValidationError as error:
        raise located(error, data, StudySpec) from None
    try:
        Objective.parse(spec.objective.metric)
    except ConfigError as error:
        raise ConfigError(where(data, ("objective", "metric")) + error.message, hint=error.hint) from None
    folder = path.absolute().parent
    # Validation makes plain dicts; these two are judged later, by stages that want to name their lines too.
    defaults = data.get("defaults", {})
    if "weights" in defaults:
        defaults["weights"] = _from_folder(defaults["weights"], folder, where(data, ("defaults", "weights")))
    space = data.get("space", spec.space)
    if isinstance(space, str) and is_path(space):
        file = folder / expanded(space, where(data, ("space",)))
        place = where(data, ("space",))
        space = read_yaml(file, hint=f"{place}write a path that starts from the study file's folder, or a known name.")
        _weights_from_folder(space, file.parent)
    elif isinstance(space, dict):
        _weights_from_folder(space, folder)
    root = folder / expanded(spec.data.root, where(data, ("data", "root")))
    spec = spec.model_copy(
        update={"defaults": defaults, "space": space, "data": spec.data.model_copy(update={"root": root})}
    )
    _refuse_wrong_paths(spec.data, data)
    base_config(spec)
    return spec


def _weights_from_folder(space: dict[str, Any], folder: Path) -> None:
    """Make the files of weights absolute that a space names, as a value or among choices."""
    weights, place = space.get("weights"), where(space, ("weights",))
    if isinstance(weights, str):
        space["weights"] = _from_folder(weights, folder, place)
    elif isinstance(weights, dict):
        if "value" in weights:
            weights["value"] = _from_folder(weights["value"], folder, place)
        if isinstance(weights.get("choices"), list):
            weights["choices"] = [_from_folder(choice, folder, place) for choice in weights["choices"]]


def _from_folder(weights: Any, folder: Path, place: str) -> Any:
    """The path of a file of weights, or of a model's folder, as that of the file; what is none, as it was."""
    if not isinstance(weights, str) or weights in NAMED:
        return weights
    return str(weights_file(folder / expanded(weights, place)))


def _refuse_wrong_paths(spec: DataSpec, data: Section) -> None:
    """Refuse what can be no path, and a folder where the data set needs an annotation file.

    A path that is not there is told with the others, when the data set is read.
    """
    for key in ("root", "images", "train", "val", "test"):
        relative: Path | None = getattr(spec, key)
        place = where(data, ("data", key))
        if relative is not None and is_folder(spec.path(relative), place) and key not in ("root", "images"):
            raise ConfigError(
                f"{place}{spec.path(relative)} is a folder, not an annotation file",
                hint="Name a COCO JSON file, relative to `data.root`.",
            )


def is_path(space: str) -> bool:
    """Whether the text that names a search space is the path of a file rather than the name of a ready-made one."""
    return "/" in space or space.endswith((".yaml", ".yml"))


def base_config(spec: StudySpec) -> TrialConfig:
    """The study's default config: `spec.defaults` over the defaults of `TrialConfig`.

    Nested fields may be written as a mapping (`augment: {mosaic: 0.5}`) or by their dotted name
    (`augment.mosaic: 0.5`).

    Raises:
        ConfigError: A field is unknown, given twice or has a value that it refuses.
    """
    data = _undotted(spec.defaults)
    try:
        return TrialConfig.model_validate(data)
    except ValidationError as error:
        raise located(error, data, TrialConfig, under=("defaults",)) from None


def dump_study_spec(spec: StudySpec) -> str:
    """The spec as YAML that `load_study_spec` reads again."""
    return dump_yaml(spec.model_dump(mode="json", exclude_none=True))


def parse_duration(text: str | float) -> float:
    """Seconds of a duration such as "2h", "90m", "1h30m", "45s", "1.5d" or a plain number of seconds.

    Raises:
        ConfigError: The text is not a duration, or the duration is not longer than nothing.
    """
    seconds: float
    if isinstance(text, str) and _DURATION.match(text.strip()):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)([dhms])", text))
    else:
        try:
            seconds = float("nan") if isinstance(text, bool) else float(text)
        except (TypeError, ValueError, OverflowError):
            seconds = float("nan")
    if not 0 < seconds < float("inf"):
        raise ConfigError(
            f"{reprlib.repr(text)} is not a duration", hint="Write it like 2h, 90m, 1h30m or a number of seconds."
        )
    return seconds


def _read_duration(data: Section) -> None:
    budget = data.get("budget")
    if not isinstance(budget, dict):
        return
    for name in ("timeout", "wall_time"):
        if budget.get(name) is None:
            continue
        try:
            budget[name] = parse_duration(budget[name])
        except ConfigError as error:
            raise ConfigError(where(data, ("budget", name)) + error.message, hint=error.hint) from None


def _override(data: Section, name: str, value: Any) -> None:
    *parents, last = name.split(".")
    node: dict[str, Any] = data
    for depth, key in enumerate(parents):
        child = node.setdefault(key, {})
        if child is None:
            child = node[key] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{where(data, tuple(parents[: depth + 1]))}should be a mapping, found {child!r}")
        node = child
    node[last] = value
    if isinstance(node, Section):
        node.lines.pop(last, None)  # the line holds another value


def _undotted(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """`{"augment.mosaic": 1}` as `{"augment": {"mosaic": 1}}`, with the lines kept."""
    result = _copy(data)
    for name in [name for name in result if "." in name]:
        *parents, last = name.split(".")
        node = result
        value = result.pop(name)
        for depth, key in enumerate(parents):
            child = node.get(key, {})
            if not isinstance(child, dict):
                raise ConfigError(f"{where(data, tuple(parents[: depth + 1]))}should be a mapping, found {child!r}")
            if isinstance(data, Section) and not isinstance(child, Section):
                child = Section(child, data.file, data.lines.get(name, data.line), {})
            else:
                child = _copy(child)
            node[key] = child
            if isinstance(node, Section) and isinstance(data, Section):
                node.lines.setdefault(key, data.lines.get(name, data.line))
            node = child
        if last in node:
            raise ConfigError(f"{where(data, (name,))}is given twice, by its dotted name and in a mapping")
        node[last] = value
        if isinstance(node, Section) and isinstance(data, Section):
            node.lines[last] = data.lines.get(name, data.line)
    return result


def _copy(data: Mapping[str, Any]) -> dict[str, Any]:
    return Section(data, data.file, data.line, data.lines) if isinstance(data, Section) else dict(data)

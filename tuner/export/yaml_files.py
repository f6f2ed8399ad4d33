"""Production configs and other models as commented YAML files, and back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from tuner.config.base import Frozen
from tuner.config.errors import ConfigError
from tuner.config.files import write_text
from tuner.config.paths import check_output
from tuner.config.problems import located
from tuner.config.source import read_yaml
from tuner.config.writing import dump_yaml
from tuner.export.production import ProductionConfig

Model = TypeVar("Model", bound=Frozen)


def save_production(production: ProductionConfig, path: Path | str, *, force: bool = False) -> None:
    """Write the config as YAML with a header that says what it is.

    Raises:
        ConfigError: The file exists and `force` is not set, or its folder does not exist.
    """
    path = Path(path)
    source = production.provenance
    header = [
        f"Production config: trial {source.trial} of study {source.study}, written by tuner {source.tuner}.",
        f"{source.objective.metric} {source.value:.4f} on the validation split"
        + (f", {source.default_value:.4f} with the default config" if source.default_value is not None else ""),
        source.trust,
    ]
    if production.built_in:
        header.append(f"Train it with: tuner train {shlex.quote(path.name)} -o model/")
    else:
        trainer = source.own_trainer or "a trainer of its own"
        header.append(f"It was found with {trainer}: read it with tuner.load_production(FILE).config")
    write_yaml(production, path, header, force=force)


def load_production(path: Path | str) -> ProductionConfig:
    """Read a production config.

    Raises:
        ConfigError: The file is missing, is not YAML, or does not hold a production config; says the line.
    """
    return read_yaml_model(Path(path), ProductionConfig)


def read_yaml_model(path: Path, kind: type[Model]) -> Model:
    """Read a model that `write_yaml` wrote.

    Raises:
        ConfigError: Names file, line and key of each problem.
    """
    data = read_yaml(path)
    if "data" in data and "config" not in data:
        raise ConfigError(
            f"{path} is a study file, not the config of a trial",
            hint="Run it with `tuner run`, then write its best config with `tuner export STUDY -o best.yaml`.",
        )
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise located(error, data, kind) from None


def write_yaml(model: Frozen, path: Path, header: list[str], *, force: bool) -> None:
    """Write a model as commented YAML, whole or not at all.

    Args:
        model: What is written.
        path: The file.
        header: Lines of the comment at its top; what cannot be printed becomes a blank there.
        force: Replace a file that is there already.

    Raises:
        ConfigError: Its folder does not exist, the file exists and `force` is not set, or it cannot be written.
    """
    check_output(path, force=force)
    values: dict[str, Any] = model.model_dump(mode="json")
    # A name in the header may hold line breaks or control characters, which no comment of YAML can.
    shown = ("".join(c if c.isprintable() else " " for c in line) for line in header)
    write_text(path, "".join(f"# {line}\n" for line in shown) + dump_yaml(values))

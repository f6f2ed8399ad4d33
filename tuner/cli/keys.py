"""`tuner keys`: every key that a study file may hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal, get_args, get_origin

import typer

from tuner.cli.common import AsJson, print_json
from tuner.cli.fitting import print_table

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Key:
    """A key of a study file.

    Attributes:
        key: Its dotted name.
        default: As text; "required", "by other keys", or None where it is not set.
        choices: What it may be, where only some texts are allowed.
        meaning: In a sentence.
    """

    key: str
    default: str | None
    choices: list[str]
    meaning: str


def keys(
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="Only keys that contain this, such as `pruner`.")] = "",
    as_json: AsJson = False,
) -> None:
    """Explain the keys of a study file: what each means, its default, and the choices that there are."""
    from rich.table import Table

    from tuner.config.errors import ConfigError, nearest
    from tuner.config.study import StudySpec

    every = [
        Key(name, _default(field), _choices(name, field), field.description or "")
        for name, field in _fields(StudySpec, "")
    ]
    shown = [one for one in every if text in one.key]
    if not shown:
        raise ConfigError(f"no key of a study file contains {text!r}", hint=nearest(text, [one.key for one in every]))
    if as_json:
        print_json([asdict(one) for one in shown])
        return
    table = Table()
    for column in ("key", "default", "meaning"):
        table.add_column(column)
    for one in shown:
        choices = f" ({', '.join(one.choices)})" if one.choices else ""
        table.add_row(one.key, one.default or "–", f"{one.meaning}{choices}")
    print_table(table)


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a model and of those inside it, by dotted names; under `defaults` those of a trial's config."""
    from pydantic import BaseModel

    from tuner.config.study import StudySpec
    from tuner.config.trial import TrialConfig

    for name, field in model.model_fields.items():
        inside = field.annotation
        if model is StudySpec and name == "defaults":
            inside = TrialConfig
        if isinstance(inside, type) and issubclass(inside, BaseModel) and inside.model_fields:
            yield from _fields(inside, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "by other keys"
    return None if field.default in (None, ()) else str(field.default) or None


def _choices(name: str, field: FieldInfo) -> list[str]:
    from tuner.models.catalog import FAMILIES

    if name == "defaults.model":
        return list(FAMILIES)
    return [str(choice) for choice in get_args(field.annotation)] if get_origin(field.annotation) is Literal else []

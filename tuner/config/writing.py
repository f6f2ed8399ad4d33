"""YAML as this package writes it: whatever is written comes back the same from `tuner.config.source`."""

from __future__ import annotations

from typing import Any

import yaml

from tuner.config.source import add_core_scalars


class _Dumper(yaml.SafeDumper):
    """Mappings on lines of their own, lists (anchors) inline, texts quoted where a line break could get lost.

    Also quoted is a text that YAML 1.1 (PyYAML's own rules) or 1.2 (those of our files) takes for something else.
    """


add_core_scalars(_Dumper)
_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    ),
)


def dump_yaml(values: dict[str, Any]) -> str:
    """A mapping as YAML, its keys in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def yaml_text(text: str) -> str:
    """A text as it stands behind a key, on one line: quoted where it must be."""
    dumped: str = yaml.dump(text, Dumper=_Dumper, allow_unicode=True, width=float("inf"))
    return dumped.removesuffix("...\n").removesuffix("\n")

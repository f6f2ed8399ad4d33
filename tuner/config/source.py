"""YAML that remembers where each key stands, so that errors can name file, line and key."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tuner.config.errors import ConfigError


class Section(dict[str, Any]):
    """A mapping of a YAML file, with the lines of its keys; everywhere else it is a plain dict.

    Attributes:
        file: The file it was read from, as the user named it.
        line: Line (from 1) on which the mapping starts.
        lines: Line of each key.
    """

    def __init__(self, values: Mapping[str, Any], file: Path, line: int, lines: Mapping[str, int]) -> None:
        super().__init__(values)
        self.file = file
        self.line = line
        self.lines = dict(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Section, (dict(self), self.file, self.line, self.lines))


class NoMapping(ConfigError):
    """A YAML file holds a list, a single value or nothing."""


class _CoreLoader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2: `1e-4` is a number, `no` and `2024-01-01` are text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML fills it below)


_CORE_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
)


def add_core_scalars(kind: type[yaml.SafeLoader] | type[yaml.SafeDumper]) -> None:
    """Have a loader, or a dumper, take for a number, a truth value or nothing what YAML 1.2 does."""
    for tag, pattern, first in _CORE_SCALARS:
        kind.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), ["" if c == "\0" else c for c in first]
        )


add_core_scalars(_CoreLoader)


def read_yaml(path: Path, *, hint: str = "Check the path.", texts: Collection[str] = ()) -> Section:
    """Read a YAML file that holds one mapping.

    Args:
        path: The file.
        hint: What to do where it is no file.
        texts: Keys whose lists or mappings hold texts: 1.50 and true stay as they are written there.

    Raises:
        NoMapping: The file holds something else.
        ConfigError: It cannot be read, is not valid YAML, or names a key twice.
    """
    return parse_yaml(_text_of(path, hint), path, texts)


def read_yaml_list(path: Path) -> list[Section]:
    """Read a YAML or JSON file that holds a list of mappings.

    Raises:
        ConfigError: The file cannot be read, is not valid YAML, or is not a list of mappings.
    """
    with _loader(_text_of(path, "Check the path."), path) as loader:
        root = loader.get_single_node()
        if not isinstance(root, yaml.SequenceNode):
            raise ConfigError(
                f"{path}: expected a list of mappings, found {_kind(root)}",
                hint="Begin each with a dash, as in `- {learning_rate: 3e-3}`.",
            )
        builder = _Builder(loader, path)
        for node in root.value:
            if not isinstance(node, yaml.MappingNode):
                line = node.start_mark.line + 1
                raise ConfigError(f"{path}:{line}: expected a mapping of keys to values, found {_kind(node)}")
        return [builder.section(node) for node in root.value]


def parse_yaml(text: str, path: Path, texts: Collection[str] = ()) -> Section:
    """Parse the text of a YAML file that holds one mapping; see `read_yaml`."""
    with _loader(text, path) as loader:
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise NoMapping(f"{path}: expected a mapping of keys to values, found {_kind(root)}")
        for key, value in root.value:
            if key.value in texts:
                _keep_as_written(value)
        return _Builder(loader, path).section(root)


def _keep_as_written(node: yaml.Node) -> None:
    """Have the single values of a list or mapping be texts, those that say nothing aside."""
    inside = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
    for value in inside if isinstance(node, yaml.CollectionNode) else ():
        if isinstance(value, yaml.ScalarNode) and value.tag != "tag:yaml.org,2002:null":
            value.tag = "tag:yaml.org,2002:str"


def _text_of(path: Path, hint: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not a text in UTF-8: {error.reason} at byte {error.start}", hint="Save it in UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint=hint) from None


@contextmanager
def _loader(text: str, path: Path) -> Iterator[_CoreLoader]:
    """A loader of the text, whose errors name file and line."""
    try:
        loader = _CoreLoader(text)
        yield loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = error.problem or str(error.context)
        hint = "Indent with blanks: YAML takes no tabs." if "'\\t'" in problem else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {problem}", hint=hint) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}:{loader.line + 1}: lists or mappings are nested too deeply") from None


def _kind(node: yaml.Node | None) -> str:
    if node is None:
        return "nothing"
    kinds: dict[type[yaml.Node], str] = {yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
    return kinds.get(type(node), "a single value")


class _Builder:
    """Turns a node tree into values; a node that several aliases name becomes one shared value."""

    def __init__(self, loader: _CoreLoader, path: Path) -> None:
        self.loader = loader
        self.path = path
        self.done: dict[int, Any] = {}
        self.open: set[int] = set()

    def value(self, node: yaml.Node, keys: tuple[str, ...] = ()) -> Any:
        if id(node) in self.done:
            return self.done[id(node)]
        if id(node) in self.open:
            raise ConfigError(f"{self.path}:{node.start_mark.line + 1}: an alias that contains itself")
        self.open.add(id(node))
        result: Any
        if isinstance(node, yaml.MappingNode):
            result = self.section(node, keys)
        elif isinstance(node, yaml.SequenceNode):
            result = [self.value(child, keys) for child in node.value]
        else:
            try:
                result = self.loader.construct_object(node)
            except (ValueError, ArithmeticError, LookupError, AttributeError):  # PyYAML's, of `!!bool foo` and such
                place = f"{self.path}:{node.start_mark.line + 1}: {'.'.join(keys)}: "
                kind = node.tag.removeprefix("tag:yaml.org,2002:")
                raise ConfigError(f"{place}{reprlib.repr(node.value)} cannot be read as !!{kind}") from None
        self.open.remove(id(node))
        self.done[id(node)] = result
        return result

    def section(self, node: yaml.MappingNode, keys: tuple[str, ...] = ()) -> Section:
        self._refuse_duplicates(node)
        self.loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:  # merged keys come first and are overwritten by the mapping's own
            key = self._key(key_node)
            values[key] = self.value(value_node, (*keys, key))
            lines[key] = key_node.start_mark.line + 1
        return Section(values, self.path, node.start_mark.line + 1, lines)

    def _refuse_duplicates(self, node: yaml.MappingNode) -> None:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            key, line = self._key(key_node), key_node.start_mark.line + 1
            if key in seen:
                raise ConfigError(f"{self.path}:{line}: {key}: the same key stands on line {seen[key]} already")
            seen[key] = line

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise ConfigError(f"{self.path}:{node.start_mark.line + 1}: a key must be a single word")
        return str(node.value)


def where(data: Any, keys: tuple[Any, ...]) -> str:
    """The place of a key as "file:line: a.b: ", as exactly as `data` knows it; the file is left out where unknown."""
    file: Path | None = None
    line: int | None = None
    node = data
    for key in keys:
        if isinstance(node, Section):
            if key in node.lines or line is None:
                line = node.lines.get(key, node.line)
            file = None if key in node and key not in node.lines else node.file  # None: given on the command line
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            break
    if not keys and isinstance(data, Section):
        file, line = data.file, data.line
    place = f"{file}:{line}: " if file is not None else ""
    name = ".".join(str(key) for key in keys)
    return f"{place}{name}: " if name else place

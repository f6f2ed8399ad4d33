"""One XML file of Pascal VOC: its image, classes and corners, with every fault named by its line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from tuner.config.errors import DataError
from tuner.data.imported import Box

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """One object: the name of its class, its corners as the file has them, and whether it is marked difficult.

    `rotation` is by how many degrees it was turned after these corners were written, as CVAT says in an attribute.
    """

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    rotation: float = 0.0

    def box(self, first: int) -> Box:
        """COCO xywh in pixels, where corners count pixels from 0 or from 1.

        From 1, as VOC's own files do, xmax is the last column within the box: 1 … W is the whole width.
        From 0, as later tools do, it is where the box ends: 0 … W is the whole width.
        """
        left, top, right, bottom = self.corners
        return left - first, top - first, right - (left - first), bottom - (top - first)


@dataclass(frozen=True)
class VocFile:
    """What an XML file says about its image.

    Attributes:
        path: The file.
        filename: Name of the image, as written; empty where there is none.
        size: (width, height) as stated; None where it is missing or 0.
        size_line: Line on which the size stands.
        objects: In the order of the file.
    """

    path: Path
    filename: str
    size: tuple[int, int] | None
    size_line: int
    objects: tuple[VocObject, ...]


@dataclass
class _Node:
    """An element of an XML file."""

    tag: str
    line: int
    text: str = ""
    children: list[_Node] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[_Node]:
        return (child for child in self.children if child.tag == tag)

    def get(self, tag: str) -> _Node | None:
        return next(self.all(tag), None)

    def text_of(self, tag: str) -> str:
        found = self.get(tag)
        return found.text.strip() if found is not None else ""


def read_voc(path: Path) -> VocFile:
    """Read an XML file.

    Raises:
        DataError: It is no XML, has a document type, or is no annotation of VOC; an object lacks a name or corners.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise DataError(
            f"{path}:{root.line}: <{root.tag}>, expected <annotation>, as Pascal VOC has it for each image",
            hint="Export the annotations as Pascal VOC or COCO JSON.",
        )
    size = root.get("size")
    width, height = (_whole(size, tag, path) if size is not None else 0 for tag in ("width", "height"))
    return VocFile(
        path=path,
        filename=root.text_of("filename"),
        size=(width, height) if width and height else None,
        size_line=size.line if size is not None else root.line,
        objects=tuple(_object(node, path) for node in root.all("object")),
    )


def is_voc(file: Path) -> bool:
    """Whether it is an XML file that begins as an annotation of VOC's."""
    if file.suffix.lower() != ".xml":
        return False
    try:
        with file.open("rb") as text:
            return b"<annotation" in text.read(4096).replace(b"\0", b"")  # in UTF-16 every second byte is one
    except OSError:  # to be named by who reads it
        return True


def _parse(path: Path) -> _Node:
    """The elements of an XML file.

    Read by expat itself, which knows the lines and follows no reference out of the file; the entities that a document
    type may define, to blow a small file up, are refused with it.
    """
    top = _Node("", 0)
    open_nodes = [top]
    encoding: str | None = None
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, _attributes: dict[str, str]) -> None:
        node = _Node(tag, parser.CurrentLineNumber)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def text(data: str) -> None:
        open_nodes[-1].text += data

    def declaration(_version: str, stated: str | None, _standalone: int) -> None:
        nonlocal encoding
        encoding = stated

    def doctype(*_: object) -> None:
        raise DataError(
            f"{path}:{parser.CurrentLineNumber}: a document type (<!DOCTYPE …>), which no annotation needs",
            hint="Remove that line.",
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _tag: open_nodes.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    parser.XmlDeclHandler = declaration
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise DataError(
            f"{path}:{error.lineno}: not valid XML: {expat.ErrorString(error.code)}",
            hint="The file may be cut off: make or copy it again.",
        ) from None
    except (ValueError, LookupError):  # of expat where it knows no such encoding, or one of several bytes a letter
        raise DataError(
            f"{path}:1: the encoding is {encoding}, which cannot be read",
            hint="Save it in UTF-8, with that name in its first line.",
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="Check that the file is there.") from None
    return top.children[0]


def _object(node: _Node, path: Path) -> VocObject:
    name = node.text_of("name")
    box = node.get("bndbox")
    if not name or box is None:
        raise DataError(
            f"{path}:{node.line}: an object without {'<bndbox>' if name else '<name>'}",
            hint="Every <object> needs a <name>, and a <bndbox> with xmin, ymin, xmax and ymax.",
        )
    left, top, right, bottom = (_number(box, tag, path) for tag in _CORNERS)
    difficult = node.text_of("difficult") in ("1", "true", "True")
    return VocObject(name, (left, top, right, bottom), difficult, _rotation(node))


def _rotation(node: _Node) -> float:
    for attributes in node.all("attributes"):
        for attribute in attributes.all("attribute"):
            if attribute.text_of("name") == "rotation":
                with suppress(ValueError):  # an attribute of the user's own, of that name
                    return float(attribute.text_of("value"))
    return 0.0


def _whole(node: _Node, tag: str, path: Path) -> int:
    value = _number(node, tag, path)
    if not value.is_integer() or value < 0:
        raise DataError(f"{path}:{node.line}: <{node.tag}> has {tag} {value:g}, expected a whole number of pixels")
    return int(value)


def _number(node: _Node, tag: str, path: Path) -> float:
    found = node.get(tag)
    try:
        value = float(found.text) if found is not None else float("nan")
    except ValueError:
        value = float("nan")
    if found is None or not abs(value) < 2**31:
        what = "is missing" if found is None else f"is {found.text.strip()!r}"
        line = node.line if found is None else found.line
        raise DataError(f"{path}:{line}: {tag} of <{node.tag}> {what}, expected a number of pixels")
    return value

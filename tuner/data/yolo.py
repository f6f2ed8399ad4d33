"""YOLO's text files of labels, one for each image, as images with boxes in pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.data.image_checks import header_sizes
from tuner.data.imported import Box, ImportedImage, ImportedObject, raise_faults, read_lines

MARGIN = 0.01
"""How far a coordinate may lie outside 0 … 1: tools round, and clip polygons badly. What then reaches over the image's
edge by more than half a pixel is counted and clipped as in any other annotation file; what is farther out is likely
to be in pixels."""

_HINT = "Each line is a class index from 0 and x y width height of the box, as parts of the image's width and height."


@dataclass(frozen=True)
class Label:
    """One line of a text file of labels.

    Attributes:
        category: Index of the class.
        values: Centre, width and height, or the corners x y x y … of a polygon, in parts of the image's size.
    """

    category: int
    values: tuple[float, ...]

    @property
    def is_polygon(self) -> bool:
        """Whether these are corners: three or more, so that there are never as many numbers as a box has."""
        return len(self.values) != 4

    def box(self, size: tuple[int, int]) -> Box:
        """COCO xywh in pixels of an image of that (width, height); of a polygon the box around it."""
        width, height = size
        if self.is_polygon:
            xs, ys = self.values[0::2], self.values[1::2]
            return min(xs) * width, min(ys) * height, (max(xs) - min(xs)) * width, (max(ys) - min(ys)) * height
        x, y, w, h = self.values
        return (x - w / 2) * width, (y - h / 2) * height, w * width, h * height


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split with their objects, and what is worth a word about them."""

    images: tuple[ImportedImage, ...]
    unlabelled: int
    polygons: int


def labelled(
    images: Sequence[Path], labels: Sequence[Path], names: Mapping[int, str], keypoints: int = 0
) -> LabelledImages:
    """Read the labels of images; an image whose file of labels is missing or empty shows no object.

    Args:
        images: Image files.
        labels: The text file of each.
        names: Class names by index.
        keypoints: Numbers of each line behind the box that are keypoints, and are left out.

    Raises:
        DataError: Lines that are no labels, all counted, the first ones named; images that cannot be read.
    """
    found: list[list[Label]] = []
    faults: list[str] = []
    unlabelled = 0
    for path in labels:
        found.append([])
        if not path.is_file():
            unlabelled += 1
            continue
        for number, line in enumerate(read_lines(path), start=1):
            if line.strip():
                try:
                    found[-1].append(parse_label(line, names, keypoints))
                except ValueError as error:
                    faults.append(f"{path}:{number}: {error}")
    raise_faults(faults, _HINT)
    sizes: list[tuple[int, int]] = [(width, height) for width, height in header_sizes(images).tolist()]
    return LabelledImages(
        images=tuple(
            ImportedImage(path, size, tuple(ImportedObject(label.category, label.box(size)) for label in of_image))
            for path, size, of_image in zip(images, sizes, found, strict=True)
        ),
        unlabelled=unlabelled,
        polygons=sum(label.is_polygon for of_image in found for label in of_image),
    )


def parse_label(line: str, names: Mapping[int, str], keypoints: int = 0) -> Label:
    """One line: a class index, and a box or a polygon of three corners or more; see `labelled`.

    Raises:
        ValueError: It is no such line; says what was found and expected.
    """
    words = line.split()
    columns = len(words)
    if keypoints and columns != 5 + keypoints:
        raise ValueError(f"{columns} columns, expected 5 for class and box, and {keypoints} for the keypoints")
    if not keypoints and (columns < 5 or columns == 6 or columns % 2 == 0):
        raise ValueError(
            f"{columns} columns, expected 5 for class and box, or 7, 9, 11 … for class and corners of a polygon"
        )
    category, *values = (_number(word) for word in words[: 5 if keypoints else columns])
    if not category.is_integer() or int(category) not in names:
        known = f"{min(names)} … {max(names)}" if len(names) > 1 else f"{min(names)} alone"
        raise ValueError(f"there is no class {words[0]}: the names of the data set have {known}")
    for value in values:
        if not -MARGIN <= value <= 1 + MARGIN:
            raise ValueError(f"{value:g} lies outside 0 … 1: expected parts of the image's width and height")
    return Label(int(category), tuple(values))


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a number") from None


def is_yolo(file: Path) -> bool:
    """Whether it is a text file whose first line that is not blank is a class and four numbers or more."""
    if file.suffix.lower() != ".txt":
        return False
    try:
        with file.open(encoding="utf-8-sig") as lines:
            line = lines.read(100_000).lstrip().partition("\n")[0]
        category, *values = map(float, line.split())
    except (OSError, ValueError):  # not to be read, no text in UTF-8, or no numbers
        return False
    return category >= 0 and category.is_integer() and len(values) >= 4

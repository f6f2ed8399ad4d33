"""Reading images of any mode into 8-bit RGB, and their sizes from the header alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from tuner.config.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings, in lower case, of the files that are images where a folder is looked through."""
MAX_PIXELS = 200_000_000
"""Width times height of the largest image that is read, as the largest phone cameras take it: 600 MB when decoded."""
Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is lower and warns from half of it on; `_opened` keeps to ours

_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_QUARTER_TURNS = (5, 6, 7, 8)
_SAME_SHAPE = (2, 3, 4)
_TIFF_PARTS = ((273, 279), (324, 325))
"""Tags of a TIFF that say where its strips or tiles begin, and how many bytes they have."""
_ENDS = {
    b"\xff\xd8": b"\xff\xd9",
    b"\x89PNG": b"IEND",
    b"\0\0\0\x0cjP": b"\xff\xd9",
    b"\xff\x4f\xff\x51": b"\xff\xd9",  # JPEG 2000 without a container
}
_TRAILER = 4096
_HINT = "Replace the file, or remove the image from the annotation file."


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as a person sees it.

    JPEG is decoded by OpenCV (0.75 ms for 640 x 480 against Pillow's 1.1), the rest by Pillow: OpenCV
    premultiplies the alpha of TIFF, cannot turn a TIFF by its EXIF orientation and decodes half a JPEG
    without complaint. Alpha is dropped, not composited, as annotation tools and other trainers do. 16-bit
    grey is scaled by its full range (65535 becomes 255), whatever values the image uses, so that equal
    values stay equal over the data set.

    Args:
        path: Image file in any format that Pillow reads: grey, palette, 16 bit, RGBA, CMYK.

    Returns:
        (H, W, 3) uint8, RGB, turned as the EXIF orientation says (or XMP's, where there is none in EXIF); as for
        `image_size`, EXIF data of a PNG behind its pixels do not count.

    Raises:
        DataError: The file is missing, truncated, no image, has samples of 32 bits or more than `MAX_PIXELS`; names
            the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint=_HINT) from error
    if data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9"):
        with _opened(BytesIO(data), path) as file:
            orientation = _orientation(file)
        # OpenCV reads fewer kinds of EXIF data than Pillow, from which sizes and all other formats are turned.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if decoded is not None:
            return np.asarray(cv2.cvtColor(_turn(decoded, orientation), cv2.COLOR_BGR2RGB), np.uint8)
    return _read_with_pillow(data, path)


def thumbnail(path: Path, side: int) -> NDArray[np.uint8]:
    """An image as a small grey square, (side, side); of a JPEG only a part is decoded, and no image is turned.

    Raises:
        DataError: As `read_image`.
    """
    with _opened(path, path) as file:
        file.draft("L", (2 * side, 2 * side))
        grey = cv2.cvtColor(_rgb(file), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _turn(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An image as a person sees it whose file has it in an EXIF orientation, 1 … 8."""
    if orientation in (5, 7):
        image = cv2.transpose(image)
    if orientation in (2, 4):
        image = cv2.flip(image, 1 if orientation == 2 else 0)
    rotation = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 7: cv2.ROTATE_180, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
    return cv2.rotate(image, rotation[orientation]) if orientation in rotation else image


def _read_with_pillow(data: bytes, path: Path) -> NDArray[np.uint8]:
    # From memory: of a path, Pillow maps the rows of a TIFF that is not compressed as if they were turned already.
    with _opened(BytesIO(data), path) as file:
        # Asked before the pixels are loaded: a PNG may have more EXIF data behind them. Pillow turns a TIFF by itself.
        orientation = 1 if isinstance(file, TiffImageFile) else _orientation(file)
        file.load()
        return np.asarray(_turn(_rgb(file), orientation), np.uint8)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an image of any mode, (H, W, 3)."""
    if image.mode.startswith("I;16"):
        # Pillow's own conversion to RGB clips at 255.
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    # Palettes with transparency warn unless they go through RGBA.
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


@contextmanager
def _opened(source: Path | BytesIO, path: Path, failed: str = "cannot be decoded") -> Iterator[Image.Image]:
    """An image of which only the header is read; every fault until it is closed is a `DataError` that names `path`."""
    try:
        with Image.open(source) as file:
            if file.mode in ("I", "F"):
                raise DataError(
                    f"{path}: samples of 32 bits (mode {file.mode}) have no defined range",
                    hint="Convert the image to 8 or 16 bits per channel.",
                )
            if file.width * file.height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {file.width} x {file.height} are more than the {MAX_PIXELS // 10**6} million pixels that "
                    "an image may have",
                    hint="Cut it into tiles, or make it smaller, and its boxes with it.",
                )
            yield file
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image, or of an unknown format", hint=_HINT) from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {failed}: {reason}", hint=_HINT) from error


def seems_cut_off(path: Path) -> bool:
    """Whether a file is shorter than its header says, or lacks the mark of its end; `read_image` tells whether it is.

    In a JPEG, JPEG 2000 or PNG the mark never stands within compressed data, and a small trailer behind it, as some
    cameras write, is fine. Files of other formats, such as PPM and TGA, all seem so: they say nothing that is cheaper
    to look at than their pixels.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head.startswith(b"RIFF"):
            return length < 8 + int.from_bytes(head[4:8], "little")
        if head.startswith(b"BM"):
            return length < int.from_bytes(head[2:6], "little")
        if head.startswith((b"II*\0", b"MM\0*")):
            return length < _end_of_tiff(path)
        if head.startswith(b"GIF8"):
            file.seek(-1, os.SEEK_END)
            return file.read() != b";"
        end = next((end for start, end in _ENDS.items() if head.startswith(start)), None)
        if end is None:
            return True
        file.seek(max(0, length - _TRAILER))
        return end not in file.read()


def _end_of_tiff(path: Path) -> int:
    """Where the pixels of a TIFF's first picture end, as its header says; 0 where it says nothing that can be read."""
    try:
        with Image.open(path) as file:
            tags = file.tag_v2 if isinstance(file, TiffImageFile) else {}
            for starts, counts in _TIFF_PARTS:
                if starts in tags and counts in tags:
                    return int(max(start + count for start, count in zip(tags[starts], tags[counts], strict=True)))
    except (OSError, SyntaxError, TypeError, ValueError):
        pass  # what is wrong with it, reading it will tell
    return 0


def frames(path: Path) -> int:
    """Number of pictures in a TIFF or an animation, of which `read_image` reads the first; 1 for other formats."""
    if path.suffix.lower() not in (".tif", ".tiff", ".gif", ".webp", ".png"):
        return 1
    try:
        with Image.open(path) as file:
            return int(getattr(file, "n_frames", 1))
    except (OSError, EOFError, SyntaxError, TypeError, ValueError):
        return 1  # what is wrong with it, reading the first will tell


def largest_of_16_bit(path: Path) -> int | None:
    """The largest value of a grey image of 16 bits, as the file has it; None for other images.

    Raises:
        DataError: As `read_image`.
    """
    with _opened(path, path) as file:
        return int(np.asarray(file).max()) if file.mode.startswith("I;16") else None


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF rotation, from the file's header (about 0.1 ms).

    Raises:
        DataError: The file is missing, is no image, has samples of 32 bits or more than `MAX_PIXELS`; names the file.
    """
    with _opened(path, path, "cannot be read") as file:
        width, height = file.size
        if isinstance(file, TiffImageFile):
            # Pillow's `size` of a TIFF is before or after the rotation, depending on its version.
            width, height = file.tag_v2[_TIFF_WIDTH], file.tag_v2[_TIFF_HEIGHT]
        turned = _orientation(file) in _QUARTER_TURNS
    return (height, width) if turned else (width, height)


def turned_seen(path: Path) -> bool:
    """Whether an EXIF orientation makes width the height of an image that can be read."""
    with Image.open(path) as file:
        return _orientation(file) in _QUARTER_TURNS


def turned_unseen(path: Path) -> bool:
    """Whether an EXIF orientation turns or mirrors an image and leaves its size, of an image that can be read.

    Then width and height in an annotation file do not tell whether its boxes were drawn before or after.
    """
    with Image.open(path) as file:
        orientation = _orientation(file)
        return orientation in _SAME_SHAPE or (orientation in _QUARTER_TURNS and file.width == file.height)


def _orientation(file: Image.Image) -> int:
    """1 … 8, as the header of a file says that was just opened; whatever else it says is 1, which turns nothing."""
    # Not `file.getexif()`, with which a PNG decodes all its pixels where it has no eXIf before them.
    value = Image.Image.getexif(file).get(_EXIF_ORIENTATION)
    return next((known for known in range(1, 9) if value == known), 1)

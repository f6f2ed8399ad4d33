"""Reading images of any mode into 8-bit RGB, and their sizes from the header alone."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from tuner.config.errors import DataError

_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_QUARTER_TURNS = (5, 6, 7, 8)
_SAME_SHAPE = (2, 3, 4)
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}
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
        (H, W, 3) uint8, RGB, turned as the EXIF orientation says.

    Raises:
        DataError: The file is missing, truncated, no image, or has samples of 32 bits; names the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint=_HINT) from error
    if data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9"):
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if decoded is not None:
            return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    return _read_with_pillow(path)


def _read_with_pillow(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as file:
            _refuse_32_bits(file, path)
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):
                # Pillow's own conversion to RGB clips at 255.
                grey = (np.asarray(image).astype(np.uint32) + 128) // 257
                return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
            # Palettes with transparency warn unless they go through RGBA.
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image, or of an unknown format", hint=_HINT) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be decoded: {error}", hint=_HINT) from error


def _refuse_32_bits(file: Image.Image, path: Path) -> None:
    if file.mode in ("I", "F"):
        raise DataError(
            f"{path}: samples of 32 bits (mode {file.mode}) have no defined range",
            hint="Convert the image to 8 or 16 bits per channel.",
        )


def seems_cut_off(path: Path) -> bool:
    """Whether a JPEG or PNG lacks the mark of its end; a small trailer behind it, as some cameras write, is fine.

    A mark never stands within compressed data, so a file that was cut there has none. Without
    one it may be whole still: `read_image` tells.
    """
    with path.open("rb") as file:
        head = file.read(4)
        end = next((end for start, end in _ENDS.items() if head.startswith(start)), None)
        if end is None:
            return False
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TRAILER))
        return end not in file.read()


def frames(path: Path) -> int:
    """Number of pictures in a TIFF or an animation, of which `read_image` reads the first; 1 for other formats."""
    if path.suffix.lower() not in (".tif", ".tiff", ".gif", ".webp", ".png"):
        return 1
    try:
        with Image.open(path) as file:
            return int(getattr(file, "n_frames", 1))
    except (OSError, EOFError, SyntaxError, ValueError):
        return 1  # what is wrong with it, reading the first will tell


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF rotation, from the file's header (about 0.1 ms).

    Raises:
        DataError: The file is missing, is no image or has samples of 32 bits; names the file.
    """
    try:
        with Image.open(path) as file:
            _refuse_32_bits(file, path)
            width, height = file.size
            if isinstance(file, TiffImageFile):
                # Pillow's `size` of a TIFF is before or after the rotation, depending on its version.
                width, height = file.tag_v2[_TIFF_WIDTH], file.tag_v2[_TIFF_HEIGHT]
            turned = _orientation(file) in _QUARTER_TURNS
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image, or of an unknown format", hint=_HINT) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}", hint=_HINT) from error
    return (height, width) if turned else (width, height)


def turned_unseen(path: Path) -> bool:
    """Whether an EXIF orientation turns or mirrors an image and leaves its size, of an image that can be read.

    Then width and height in an annotation file do not tell whether its boxes were drawn before or after.
    """
    with Image.open(path) as file:
        orientation = _orientation(file)
        return orientation in _SAME_SHAPE or (orientation in _QUARTER_TURNS and file.width == file.height)


def _orientation(file: Image.Image) -> int:
    # Asking a PNG for EXIF data that its header lacks would decode all of it.
    has_exif = file.format != "PNG" or "exif" in file.info
    return int(file.getexif().get(_EXIF_ORIENTATION, 1)) if has_exif else 1

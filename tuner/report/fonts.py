"""Names in any script in figures: matplotlib's own font has Latin, Greek and Cyrillic, but no Chinese character."""

from __future__ import annotations

from functools import cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

_UNKNOWN = "□"
"""Stands for a character that no font has; matplotlib would draw a box, too, but with a warning for each."""


def write_plainly(figure: Figure) -> None:
    """Let each text of a figure be drawn as it stands, with the fonts of this machine where matplotlib's has not all.

    Names of classes and studies are anyone's: a $ in them begins no formula.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        written = text.get_text()
        if written.isascii():
            continue
        foreign = {letter for letter in written if not letter.isspace() and not _standard().get_char_index(ord(letter))}
        if foreign:
            families, unknown = _fonts_of("".join(sorted(foreign)))
            text.set_fontfamily([*text.get_fontfamily(), *families])
            text.set_text(written.translate(dict.fromkeys(map(ord, unknown), _UNKNOWN)))


@cache
def _standard() -> FT2Font:
    return FT2Font(font_manager.findfont("DejaVu Sans"))


@cache
def _fonts_of(letters: str) -> tuple[tuple[str, ...], str]:
    """Families of this machine's fonts that have these characters, and those characters that none has."""
    families: dict[str, None] = {}
    for path in sorted(font_manager.findSystemFonts(), key=lambda path: ("Regular" not in path, path)):
        if not letters:
            break
        try:
            font = FT2Font(path)
            missing = "".join(letter for letter in letters if not font.get_char_index(ord(letter)))
            if missing != letters:
                font_manager.fontManager.addfont(path)  # the list that matplotlib keeps may be older than this font
                families[font.family_name] = None
        except (OSError, RuntimeError, NotImplementedError):  # damaged, or of a kind that it cannot draw
            continue
        letters = missing
    return tuple(families), letters

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tuner.config.errors import DataError
from tuner.data.image_checks import header_sizes, turn_notes
from tuner.data.images import frames, image_size, read_image, seems_cut_off, turned_seen

RNG = np.random.default_rng(3)
COARSE = RNG.integers(0, 256, (5, 7, 3), np.uint8)
RGB = cv2.resize(COARSE, (70, 50), interpolation=cv2.INTER_LINEAR)
GREY = RGB[..., 0]


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.bmp", "x.webp", "x.ppm"])
def test_lossless_rgb(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    assert np.array_equal(read_image(tmp_path / name), RGB)
    assert image_size(tmp_path / name) == (70, 50)


def test_jpeg_is_close(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.jpg", quality=98, subsampling=0)
    assert np.abs(read_image(tmp_path / "x.jpg").astype(int) - RGB).mean() < 2


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jpg"])
def test_grey_becomes_three_equal_channels(tmp_path, name):
    Image.fromarray(GREY).save(tmp_path / name, quality=98)
    image = read_image(tmp_path / name)
    assert image.shape == (50, 70, 3)
    assert (image == image[..., :1]).all()
    assert np.abs(image[..., 0].astype(int) - GREY).mean() < (2 if name.endswith("jpg") else 1e-9)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_16_bit_is_scaled_by_its_full_range(tmp_path, name):
    wide = RNG.integers(0, 65536, (50, 70), np.uint16)
    wide[0, :2] = 0, 65535
    cv2.imwrite(str(tmp_path / name), wide)
    image = read_image(tmp_path / name)
    assert np.abs(image.astype(float) - wide[..., None] / 257).max() <= 0.5
    cv2.imwrite(str(tmp_path / name), RGB[..., ::-1].astype(np.uint16) * 257)
    assert np.abs(read_image(tmp_path / name).astype(int) - RGB).max() <= 1


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.webp"])
def test_alpha_is_dropped_without_touching_the_colours(tmp_path, name):
    alpha = np.maximum(GREY, 1)
    image = Image.fromarray(np.dstack([RGB, alpha]))
    image.save(tmp_path / name, **({"lossless": True, "exact": True} if name.endswith("webp") else {}))
    assert np.array_equal(read_image(tmp_path / name), RGB)


def test_palette_bilevel_and_grey_with_alpha(tmp_path):
    palette = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)
    expected = np.array(palette.convert("RGB"))
    palette.save(tmp_path / "p.png")
    assert np.array_equal(read_image(tmp_path / "p.png"), expected)
    palette.save(tmp_path / "t.png", transparency=3)
    assert np.array_equal(read_image(tmp_path / "t.png"), expected)
    palette.save(tmp_path / "b.png", transparency=bytes(range(32)))
    assert np.array_equal(read_image(tmp_path / "b.png"), expected)
    palette.save(tmp_path / "p.gif")
    assert read_image(tmp_path / "p.gif").shape == (50, 70, 3)
    Image.fromarray(GREY).convert("1").save(tmp_path / "1.png")
    assert set(np.unique(read_image(tmp_path / "1.png"))) == {0, 255}
    Image.fromarray(np.dstack([GREY, GREY[::-1]])).save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png")[..., 0], GREY)


def test_cmyk(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "x.tif")
    assert np.array_equal(read_image(tmp_path / "x.tif"), RGB)
    Image.new("CMYK", (70, 50), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "x.jpg").astype(int) - (255, 0, 0)).max() < 6


def _turned(image, orientation):
    turns = {1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1]}
    turns |= {5: image.swapaxes(0, 1), 6: np.rot90(image, -1), 8: np.rot90(image)}
    turns[7] = turns[5][::-1, ::-1]
    return turns[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.webp"])
def test_exif_rotation(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / name, exif=exif, quality=98)
    image = read_image(tmp_path / name)
    expected = _turned(RGB, orientation)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 4
    assert image_size(tmp_path / name) == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_a_tiff_that_is_not_compressed_is_turned(tmp_path, mode, orientation):
    """Pillow maps such a file into memory where it may, and took its rows for those of the turned image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = RGB[:, :, 0]
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(tmp_path / "x.tif", exif=exif)
    assert (read_image(tmp_path / "x.tif") == _turned(grey[:, :, None].repeat(3, 2), orientation)).all()


def test_a_tiff_whose_second_picture_has_no_height_is_taken_for_one(tmp_path):
    image = Image.fromarray(RGB)
    image.save(tmp_path / "x.tif", save_all=True, append_images=[image])
    before, found, after = (tmp_path / "x.tif").read_bytes().rpartition(struct.pack("<HH", 257, 4))
    assert found
    (tmp_path / "x.tif").write_bytes(before + struct.pack("<HH", 9999, 4) + after)
    assert frames(tmp_path / "x.tif") == 1
    assert (read_image(tmp_path / "x.tif") == RGB).all()


def _exif(kind, value):
    """EXIF data whose orientation has any type: 2 text, 3 short, 4 long, 5 rational."""
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHI", 1, 0x0112, kind, 1) + value + struct.pack(">III", 0, 6, 1)


@pytest.mark.parametrize(
    ("saved", "turned"),
    [
        ({"exif": _exif(3, b"\0\6\0\0")}, 6),
        ({"exif": _exif(4, b"\0\0\0\6")}, 6),
        ({"exif": _exif(5, b"\0\0\0\x1a")}, 6),
        ({"exif": _exif(2, b"6\0\0\0")}, 1),
        ({"exif": _exif(3, b"\0\x09\0\0")}, 1),
        ({"xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'}, 6),
        ({"xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="3"/>'}, 3),
    ],
)
@pytest.mark.parametrize("end", [b"", b"bytes after the end, for which Pillow decodes"])
def test_pixels_of_a_jpeg_are_turned_as_its_size_is(tmp_path, saved, turned, end):
    path = tmp_path / "x.jpg"
    Image.fromarray(RGB).save(path, quality=98, **saved)
    path.write_bytes(path.read_bytes() + end)
    image = read_image(path)
    expected = _turned(RGB, turned)
    assert image_size(path) == (image.shape[1], image.shape[0]) == (expected.shape[1], expected.shape[0])
    assert np.abs(image.astype(int) - expected).mean() < 4


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _exif_chunk(orientation):
    return _chunk(b"eXIf", _exif(3, struct.pack(">HH", orientation, 0)).removeprefix(b"Exif\0\0"))


def _raw_profile(orientation):
    """EXIF data in lines of hexadecimal digits, compressed, as ImageMagick 6 writes them."""
    data = _exif(3, struct.pack(">HH", orientation, 0))
    text = b"\nexif\n%8d\n" % len(data) + b"\n".join(data[i : i + 36].hex().encode() for i in range(0, len(data), 36))
    return _chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text + b"\n"))


def _xmp(orientation):
    return _chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="%d"/>' % orientation)


def _png(before=b"", after=b"", image=RGB):
    """A PNG of uint8 RGB or uint16 grey with chunks before its pixels, and after them."""
    height, width = image.shape[:2]
    depth, colour = (16, 0) if image.dtype == np.uint16 else (8, 2)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = b"".join(b"\0" + row.astype(image.dtype.newbyteorder(">")).tobytes() for row in image)
    return (
        b"\x89PNG\r\n\x1a\n" + header + before + _chunk(b"IDAT", zlib.compress(pixels)) + after + _chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        (_exif_chunk, None, True),
        (_raw_profile, None, True),
        (_xmp, None, True),
        (None, _exif_chunk, False),
        (None, _raw_profile, False),
        (lambda _: _xmp(1), _exif_chunk, False),
        (lambda _: _raw_profile(1), _exif_chunk, False),
    ],
)
def test_pixels_of_a_png_are_turned_as_its_size_is(tmp_path, before, after, seen, orientation):
    path = tmp_path / "x.png"
    path.write_bytes(_png(before(orientation) if before else b"", after(orientation) if after else b""))
    expected = _turned(RGB, orientation if seen else 1)
    assert np.array_equal(read_image(path), expected)
    assert image_size(path) == (expected.shape[1], expected.shape[0])
    assert turned_seen(path) is (seen and orientation >= 5)
    assert bool(turn_notes([path])) is (seen and orientation in (2, 3, 4))


@pytest.mark.parametrize("chunk", [_exif_chunk, _raw_profile, _xmp])
def test_the_size_of_a_turned_png_needs_no_pixels(tmp_path, chunk):
    content = _png(chunk(6))
    (tmp_path / "x.png").write_bytes(content[: content.index(b"IDAT") + 4])
    assert image_size(tmp_path / "x.png") == (50, 70)


def test_a_png_of_16_bit_and_one_with_a_palette_are_turned(tmp_path):
    (tmp_path / "x.png").write_bytes(_png(_exif_chunk(6), image=GREY.astype(np.uint16) * 257))
    assert np.array_equal(read_image(tmp_path / "x.png")[..., 0], _turned(GREY, 6))
    palette = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)
    palette.save(tmp_path / "p.png", transparency=3, exif=_exif(3, b"\0\6\0\0"))
    assert np.array_equal(read_image(tmp_path / "p.png"), _turned(np.array(palette.convert("RGB")), 6))


@pytest.mark.parametrize("name", ["x.jpg", "x.png"])
def test_images_up_to_a_limit_are_read(tmp_path, name):
    Image.new("L", (14_000, 10_000)).save(tmp_path / name)  # Pillow's own limit warns of these
    assert image_size(tmp_path / name) == (14_000, 10_000)
    Image.new("L", (20_001, 10_000)).save(tmp_path / name)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"20001 x 10000 are more than the 200 million pixels") as error:
            read(tmp_path / name)
        assert "Cut it into tiles" in error.value.hint


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.bmp", "x.gif", "x.webp", "x.tif", "x.jp2", "x.j2k"])
def test_a_truncated_file_is_named(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(RGB).save(path)
    assert not seems_cut_off(path)  # so that nobody waits for whole files to be decoded
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    for read in (read_image, lambda path: header_sizes([path])):
        with pytest.raises(DataError, match=name):
            read(path)


@pytest.mark.parametrize("name", ["x.ppm", "x.pgm", "x.tga"])
def test_a_truncated_file_without_a_mark_of_its_end_is_named(tmp_path, name):
    path = tmp_path / name
    image = Image.fromarray(RGB if name != "x.pgm" else GREY)
    image.save(path)
    assert header_sizes([path]).tolist() == [[*image.size]]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=name):
        header_sizes([path])


def test_a_jpeg_with_bytes_after_its_end_is_read(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.jpg")
    whole = read_image(tmp_path / "x.jpg")
    with (tmp_path / "x.jpg").open("ab") as file:
        file.write(b"\0" * 100)
    assert np.abs(read_image(tmp_path / "x.jpg").astype(int) - whole).max() <= 2


def test_what_is_no_image_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"gone\.png: cannot be read: No such file"):
        image_size(tmp_path / "gone.png")
    for content in (b"", b"hello", b"\xff\xd8\xff\xd9"):
        (tmp_path / "x.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.jpg"):
            read_image(tmp_path / "x.jpg")
        with pytest.raises(DataError, match=r"x\.jpg"):
            image_size(tmp_path / "x.jpg")
    Image.fromarray(RNG.random((5, 5)).astype(np.float32)).save(tmp_path / "f.tif")
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"f\.tif: samples of 32 bits"):
            read(tmp_path / "f.tif")


def test_a_turned_image_of_two_splits_is_counted_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg", exif=exif)
    (note,) = turn_notes([tmp_path / "a.jpg", tmp_path / "a.jpg"])
    assert note.startswith("1 images are turned")
    assert note.count("a.jpg") == 1

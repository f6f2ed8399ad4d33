"""COCO files against the image files that they name: names, sizes and headers."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from tuner.config.errors import DataError
from tuner.data.coco import load_dataset, load_split


@pytest.mark.parametrize("written", ["a%20b.png", "/home/bob/a b.png", "C:\\bob\\a b.png", "a b.jpg", "sub/a b.png"])
def test_an_image_that_is_there_under_another_name_is_pointed_out(folder, written):
    (folder.root / "images" / "train0.png").rename(folder.root / "images" / "a b.png")
    folder.contents["train"]["images"][0]["file_name"] = written
    folder.write()
    with pytest.raises(DataError, match=r"1 of 3 image files are missing") as error:
        load_split(folder.spec(), "train")
    assert f"{folder.root / 'images' / 'a b.png'} is there" in str(error.value)


@pytest.mark.parametrize(("written", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_image_whose_accents_are_encoded_otherwise_is_pointed_out(folder, written, there):
    name, path = unicodedata.normalize(written, "é.png"), folder.root / "images" / unicodedata.normalize(there, "é.png")
    (folder.root / "images" / "train0.png").rename(path)
    folder.contents["train"]["images"][0]["file_name"] = name
    folder.write()
    with pytest.raises(DataError, match=r"1 of 3 image files are missing") as error:
        load_split(folder.spec(), "train")
    assert f"{path} is there: it looks the same" in error.value.hint


@pytest.mark.parametrize("name", ["train1.png", "./train1.png", "../images/train1.png"])
def test_an_image_in_two_splits_is_reported(folder, name):
    folder.contents["val"]["images"][0]["file_name"] = name
    folder.write()
    (warning,) = load_dataset(folder.spec()).warnings
    assert "1 images are in train and in val" in warning
    assert "train1.png" in warning


def test_an_image_in_two_splits_is_found_behind_a_link(folder):
    (folder.root / "images" / "again").symlink_to(folder.root / "images")
    folder.contents["val"]["images"][0]["file_name"] = "again/train1.png"
    folder.write()
    (warning,) = load_dataset(folder.spec()).warnings
    assert "1 images are in train and in val" in warning


def test_a_split_that_has_no_images_of_its_own_is_called_worthless(folder):
    (warning,) = load_dataset(folder.spec(val="train.json")).warnings
    assert "3 images are in train and in val, and val has no others: it says nothing of new images" in warning


def test_an_image_that_a_split_lists_twice_is_reported(folder):
    folder.contents["val"]["images"][0]["file_name"] = "../images/val1.png"
    folder.write()
    (warning,) = load_dataset(folder.spec()).warnings
    assert "val lists 1 images more than once" in warning
    assert warning.endswith("is background there: merge the entries of each image into one")
    assert "val1.png" in warning


def test_sizes_that_disagree_with_the_file_are_named(folder):
    Image.fromarray(np.zeros((30, 41, 3), np.uint8)).save(folder.root / "images" / "val2.png")
    with pytest.raises(DataError, match=r"val2\.png is 41 x 30, not 40 x 30"):
        load_dataset(folder.spec())


def test_an_exif_rotation_that_the_annotations_ignore_is_explained(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    folder.contents["val"]["images"][2]["file_name"] = "turned.jpg"
    folder.write()
    Image.new("RGB", (40, 30)).save(folder.root / "images" / "turned.jpg", exif=exif)
    with pytest.raises(DataError, match=r"turned\.jpg is 30 x 40, not 40 x 30") as error:
        load_dataset(folder.spec())
    assert "EXIF" in error.value.hint


def test_width_and_height_that_are_swapped_without_an_exif_rotation_are_explained(folder):
    for image in folder.contents["val"]["images"]:
        image |= {"width": 30, "height": 40}
    folder.contents["val"]["annotations"] = [
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
    ]
    folder.write()
    with pytest.raises(DataError, match=r"val0\.png is 40 x 30, not 30 x 40") as error:
        load_dataset(folder.spec())
    assert "EXIF" not in error.value.hint
    assert "swapped: mend them in the annotation file" in error.value.hint


def test_sizes_come_from_the_files_where_the_json_has_none(folder):
    del folder.contents["train"]["images"][1]["width"]
    folder.write()
    split, _ = load_split(folder.spec(), "train")
    assert split.sizes.tolist() == [[40, 30]] * 3


def test_a_size_that_is_stated_is_checked_also_where_another_is_not(folder):
    first, second, _ = folder.contents["train"]["images"]
    del first["width"]
    second["width"] = 80
    folder.write()
    assert load_split(folder.spec(), "train")[0].sizes.tolist() == [[40, 30], [80, 30], [40, 30]]
    with pytest.raises(DataError, match=r"train1\.png is 40 x 30, not 80 x 30"):
        load_dataset(folder.spec())


def test_unreadable_headers_are_counted_and_named(folder):
    for name in ("train0.png", "train2.png"):
        (folder.root / "images" / name).write_text("not an image")
    with pytest.raises(DataError, match=r"2 images cannot be read: .*train0\.png: .*train2\.png"):
        load_dataset(folder.spec())


def test_names_of_windows_are_those_of_files_here(folder):
    for image in folder.contents["train"]["images"]:
        image["file_name"] = f"sub\\{image['file_name']}"
    folder.write()
    (folder.root / "images" / "sub").mkdir()
    for name in ("train0.png", "train1.png", "train2.png"):
        (folder.root / "images" / name).rename(folder.root / "images" / "sub" / name)
    assert load_dataset(folder.spec()).train.file_names == ("sub/train0.png", "sub/train1.png", "sub/train2.png")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_file_that_was_cut_off_is_found_before_a_study_begins(folder, suffix):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8))
    for content in folder.contents["train"]["images"]:
        content["file_name"] = content["file_name"].replace("png", suffix)
        noise.save(folder.root / "images" / content["file_name"])
    folder.write()
    first, second = (folder.root / "images" / f"train{i}.{suffix}" for i in range(2))
    first.write_bytes(first.read_bytes() + b"a trailer, as some cameras write it")
    load_dataset(folder.spec())
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"train1\.{suffix}: cannot be decoded"):
        load_dataset(folder.spec())

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.coco_files import names_of, write_images
from tuner.config.errors import DataError
from tuner.data.find_splits import FoundData, find_data
from tuner.data.voc import VocObject, read_voc

OBJECT = """
  <object>
    <name>{name}</name>
    <difficult>{difficult}</difficult>
    <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
  </object>"""


def an_object(*corners: float, name: str = "dog", difficult: int = 0) -> str:
    return OBJECT.format(*corners, name=name, difficult=difficult)


def xml(*objects: str, size: tuple[int, int] | None = (96, 64), filename: str = "") -> str:
    stated = f"<size>\n<width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation>\n<filename>{filename}</filename>\n{stated}{''.join(objects)}\n</annotation>\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def find(root: Path) -> FoundData:
    return find_data(root, [root], None, None, stem=root / "study")


def content_of(found: FoundData, role: str) -> dict:
    return found.files[getattr(found.data, role)]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Ten images with a dog each, six to train on, four to validate on."""
    names = names_of("x", 10)
    write_images(tmp_path / "JPEGImages", names)
    for name in names:
        write(tmp_path / "Annotations" / f"{name[:-4]}.xml", xml(an_object(11, 6, 30, 45), filename=name))
    ids = [name[:-4] for name in names]
    for role, part in (("train", ids[:6]), ("val", ids[6:]), ("trainval", ids)):
        write(tmp_path / "ImageSets" / "Main" / f"{role}.txt", "\n".join(part) + "\n")
    write(tmp_path / "ImageSets" / "Main" / "dog_train.txt", "x000  1\nx001 -1\n")
    return tmp_path


def test_objects_that_cvat_turned_after_their_corners_were_written_keep_the_angle(voc: Path) -> None:
    turned = "<attributes><attribute><name>{}</name><value>{}</value></attribute></attributes></object>"
    objects = [
        an_object(11, 6, 30, 45).replace("</object>", turned.format(*attribute))
        for attribute in (("rotation", "30.5"), ("rotation", "0.0"), ("rotation", "clockwise"), ("occluded", "1"))
    ]
    write(voc / "Annotations" / "x000.xml", xml(*objects))
    rows = content_of(find(voc), "train")["annotations"]
    assert [row.get("attributes") for row in rows[:4]] == [{"rotation": 30.5}, None, None, None]


@given(st.tuples(*[st.integers(0, 5000)] * 2), st.tuples(*[st.integers(1, 5000)] * 2), st.sampled_from([0, 1]))
def test_a_box_comes_back_from_its_corners(start: tuple[int, int], size: tuple[int, int], first: int) -> None:
    """Pixels from `start` on, as many as `size`: counted from 1 the last of them is xmax, from 0 it is the end."""
    corners = (start[0] + first, start[1] + first, start[0] + size[0], start[1] + size[1])
    assert VocObject("dog", tuple(map(float, corners)), False).box(first) == (*start, *size)


def test_the_layout_of_pascal_voc(voc: Path) -> None:
    write(voc / "Annotations" / "x001.xml", xml(an_object(1, 1, 96, 64, name="cat")))
    found = find(voc)
    assert found.data.images == voc / "JPEGImages"
    train = content_of(found, "train")
    assert train["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert train["images"][1] == {"id": 2, "file_name": "x001.jpg", "width": 96, "height": 64}
    assert [row["bbox"] for row in train["annotations"][:2]] == [[10, 5, 20, 40], [0, 0, 96, 64]]
    assert [row["category_id"] for row in train["annotations"]] == [2, 1, 2, 2, 2, 2]
    assert content_of(found, "val")["images"][0]["file_name"] == "x006.jpg"
    assert len(found.notes) == 1


def test_trainval_alone_is_divided_and_a_test_list_is_the_test_split(voc: Path) -> None:
    sets = voc / "ImageSets" / "Main"
    (sets / "val.txt").unlink()
    write(sets / "trainval.txt", "".join(f"x00{i}\n" for i in range(8)))
    write(sets / "test.txt", "x008\n")
    found = find(voc)
    counts = [len(content_of(found, role)["images"]) for role in ("train", "val", "test")]
    assert (sum(counts[:2]), counts[2]) == (8, 1)
    assert any("no validation split" in note for note in found.notes)
    assert any("left out: 1 images that have no XML file or are in no list" in note for note in found.notes)
    write(sets / "test.txt", "x008\nx999\n")
    with pytest.raises(DataError, match=r"test\.txt:2: there is no \S*x999\.xml"):
        find(voc)


def test_lists_say_their_split_however_they_are_spelled(voc: Path) -> None:
    sets = voc / "ImageSets" / "Main"
    (sets / "trainval.txt").unlink()
    (sets / "train.txt").rename(sets / "Train2007.txt")
    (sets / "val.txt").rename(sets / "Test.txt")
    found = find(voc)
    assert sum(len(content_of(found, role)["images"]) for role in ("train", "val")) == 6
    assert [image["file_name"] for image in content_of(found, "test")["images"]] == names_of("x", 10)[6:]
    write(sets / "train.txt", "x000\n")
    with pytest.raises(DataError, match=r"Train2007\.txt and \S*train\.txt are both lists of train"):
        find(voc)


def test_without_a_training_list_what_is_in_no_other_is_trained_on(voc: Path) -> None:
    sets = voc / "ImageSets" / "Main"
    (sets / "trainval.txt").unlink()
    write(sets / "test.txt", "x000\nx001\n")
    (sets / "train.txt").unlink()
    found = find(voc)
    assert [image["file_name"] for image in content_of(found, "train")["images"]] == names_of("x", 10)[2:6]
    assert len(content_of(found, "val")["images"]) == 4
    assert len(content_of(found, "test")["images"]) == 2
    assert any("the 4 XML files that are not of val and test are trained on" in note for note in found.notes)
    write(sets / "val.txt", "".join(f"x00{i}\n" for i in range(2, 10)))
    with pytest.raises(DataError, match="holds XML files of val and test alone"):
        find(voc)


def test_the_archive_of_pascal_voc_has_its_lists_in_a_folder_of_the_year(
    voc: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    devkit = tmp_path_factory.mktemp("archive") / "VOCdevkit"
    shutil.copytree(voc, devkit / "VOC2007")
    write(devkit / "VOC2007" / "ImageSets" / "Main" / "trainval.txt", "".join(f"x00{i}\n" for i in range(8)))
    (devkit / "VOC2007" / "ImageSets" / "Main" / "val.txt").unlink()
    write(devkit / "VOC2007" / "ImageSets" / "Main" / "test.txt", "x008\nx009\n")
    found = find(devkit)
    assert len(content_of(found, "test")["images"]) == 2
    assert sum(len(content_of(found, role)["images"]) for role in ("train", "val")) == 8
    assert any("VOC2007/ImageSets/Main say what the splits are" in note for note in found.notes)
    shutil.copytree(voc, devkit / "VOC2012")
    with pytest.raises(DataError, match=r"several Pascal VOC data sets: \S*VOC2007, \S*VOC2012") as error:
        find(devkit)
    assert error.value.hint.endswith("VOCdevkit/VOC2007.")


def test_empty_lists_are_told_and_passed_over(voc: Path) -> None:
    sets = voc / "ImageSets" / "Main"
    write(sets / "test.txt", "\n")
    found = find(voc)
    assert found.data.test is None
    assert any(note.endswith("test.txt is empty: it makes no test split") for note in found.notes)
    for role in ("train", "val", "trainval"):
        write(sets / f"{role}.txt", "")
    found = find(voc)
    assert sum(len(content_of(found, role)["images"]) for role in ("train", "val")) == 10
    assert sum("is empty" in note for note in found.notes) == 4


def test_json_that_lists_no_images_does_not_stand_in_the_way(voc: Path) -> None:
    write(voc / "dataset-metadata.json", '{"title": "dogs"}')
    assert len(content_of(find(voc), "train")["images"]) == 6


def test_xml_beside_the_images_in_folders_of_splits(tmp_path: Path) -> None:
    """As Roboflow exports it, with corners that are counted from 0."""
    for folder, count in (("train", 6), ("valid", 3)):
        names = names_of(folder, count)
        write_images(tmp_path / folder, names)
        for name in names:
            write(tmp_path / folder / f"{name[:-4]}.xml", xml(an_object(0, 6, 30, 46), filename=name))
    found = find(tmp_path)
    assert found.data.images == tmp_path
    assert content_of(found, "val")["images"][0]["file_name"] == "valid/valid000.jpg"
    assert content_of(found, "train")["annotations"][0]["bbox"] == [0, 6, 30, 40]
    assert any("counted from 0" in note for note in found.notes)


def test_folders_of_splits_within_annotations_and_images(tmp_path: Path) -> None:
    for role, count in (("train", 5), ("val", 3)):
        names = names_of("x", count)
        write_images(tmp_path / "images" / role, names)
        for name in names:
            write(tmp_path / "annotations" / role / f"{name[:-4]}.xml", xml(an_object(2, 2, 9, 9)))
    found = find(tmp_path)
    assert found.data.images == tmp_path / "images"
    assert [image["file_name"] for image in content_of(found, "val")["images"]] == [
        f"val/{name}" for name in names_of("x", 3)
    ]
    (tmp_path / "images" / "val" / "x001.jpg").unlink()
    with pytest.raises(DataError, match=r"^\S*annotations/val/x001\.xml: there is no image x001\n"):
        find(tmp_path)


def test_an_image_may_have_the_name_that_the_file_says(tmp_path: Path) -> None:
    names = names_of("photo ", 4)
    write_images(tmp_path / "images", names)
    for i, name in enumerate(names):
        write(tmp_path / "annotations" / f"{i}.xml", xml(an_object(2, 2, 9, 9), size=(0, 0), filename=f"C:\\a\\{name}"))
    found = find(tmp_path)
    assert len(content_of(found, "train")["images"]) + len(content_of(found, "val")["images"]) == 4
    (tmp_path / "images" / names[2]).unlink()
    with pytest.raises(DataError, match=r"annotations/2\.xml: there is no image 2 or 'C:\S+photo 002\.jpg'"):
        find(tmp_path)


def test_difficult_objects_are_crowds_and_counted(voc: Path) -> None:
    write(voc / "Annotations" / "x000.xml", xml(an_object(2, 2, 9, 9), an_object(3, 3, 40, 40, difficult=1)))
    found = find(voc)
    assert [row["iscrowd"] for row in content_of(found, "train")["annotations"][:3]] == [0, 1, 0]
    assert any(note.startswith("1 of 11 objects are marked difficult") for note in found.notes)


def test_a_split_of_difficult_objects_alone_is_refused_in_the_words_of_voc(voc: Path) -> None:
    for number in range(6, 10):
        write(voc / "Annotations" / f"x00{number}.xml", xml(an_object(2, 2, 9, 9, difficult=1)))
    with pytest.raises(DataError, match="all 4 objects of val are marked difficult") as error:
        find(voc)
    assert error.value.hint.startswith("Set <difficult> to 0")


@pytest.mark.parametrize("encoding", ["GBK", "gb2312", "Big5", "Shift_JIS", "no-such"])
def test_an_encoding_that_is_not_read_is_named(encoding: str, voc: Path) -> None:
    text = f"<?xml version='1.0' encoding='{encoding}'?>\n" + xml(an_object(2, 2, 9, 9, name="dog"))
    write(voc / "Annotations" / "x003.xml", text)
    with pytest.raises(DataError, match=rf"x003\.xml:1: the encoding is {encoding}, which cannot be read") as error:
        find(voc)
    assert error.value.hint.startswith("Save it in UTF-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (xml(an_object(2, 2, 9, 9), size=(64, 96)), r"x003\.xml:3: size 64 x 96, but \S*x003\.jpg is 96 x 64"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>\n<annotation/>", r"x003\.xml:1: a document type"),
        ("<annotation>\n<object>", r"x003\.xml:2: not valid XML: no element found"),
        ("<annotations/>", r"x003\.xml:1: <annotations>, expected <annotation>"),
        ("<annotation>\n<object>\n</object></annotation>", r"x003\.xml:2: an object without <name>"),
        (
            "<annotation>\n\n<object><name>a</name></object></annotation>",
            r"x003\.xml:3: an object without <bndbox>",
        ),
        (xml(OBJECT.format("", 1, 2, 3, name="a", difficult=0)), r"x003\.xml:8: xmin of <bndbox> is ''"),
        (xml(an_object(float("inf"), 2, 9, 9)), r"xmin of <bndbox> is 'inf'"),
        (xml(an_object(1, 2, 9, 9)).replace("ymax", "end"), r"ymax of <bndbox> is missing"),
        (xml(size=(9, -4)), r"x003\.xml:3: <size> has height -4"),
    ],
)
def test_faults_are_named_by_their_lines(text: str, words: str, voc: Path) -> None:
    write(voc / "Annotations" / "x003.xml", text)
    with pytest.raises(DataError, match=words):
        find(voc)


def test_a_file_that_refers_to_others_is_not_followed(voc: Path) -> None:
    (voc / "Annotations" / "x003.xml").write_text("<annotation><filename>&secret;</filename></annotation>")
    with pytest.raises(DataError, match=r"x003\.xml:1: not valid XML: undefined entity"):
        read_voc(voc / "Annotations" / "x003.xml")


def test_an_image_that_exif_turns_is_compared_as_it_is_seen(voc: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 96)).save(voc / "JPEGImages" / "x002.jpg", exif=exif)
    assert len(content_of(find(voc), "train")["images"]) == 6
    Image.new("RGB", (96, 64)).save(voc / "JPEGImages" / "x002.jpg", exif=exif)
    with pytest.raises(DataError, match=r"x002\.xml:3: size 96 x 64, but \S*x002\.jpg is 64 x 96"):
        find(voc)

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from yolo_layouts import content_of, counts_of, find, write, write_split

from tests.coco_files import names_of, write_images, write_json
from tuner.config.errors import DataError


def test_the_layout_of_ultralytics(ultralytics: Path) -> None:
    found = find(ultralytics)
    assert found.data.images == ultralytics / "images"
    train = content_of(found, "train")
    assert train["categories"] == [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]
    assert train["images"][0] == {"id": 1, "file_name": "train/train000.jpg", "width": 96, "height": 64}
    assert [row["bbox"] for row in train["annotations"]] == [[36, 16, 24, 32]] * 6
    assert {row["category_id"] for row in train["annotations"]} == {1}
    assert len(content_of(found, "val")["images"]) == 4
    assert found.data.test is None
    assert found.read == (ultralytics / "data.yaml",)


@pytest.mark.parametrize("start", ["../", ""])
def test_the_layout_of_roboflow(start: str, tmp_path: Path) -> None:
    for folder in ("train", "valid"):
        write_split(tmp_path / folder / "images", tmp_path / folder / "labels", folder, 5)
    write(
        tmp_path / "data.yaml",
        f"train: {start}train/images\nval: {start}valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['no', '7']\n",
    )
    found = find(tmp_path)
    assert content_of(found, "val")["images"][0]["file_name"] == "valid/images/valid000.jpg"
    assert [row["name"] for row in content_of(found, "train")["categories"]] == ["no", "7"]
    assert found.data.test is None
    assert any("data.yaml:3: test: ../test/images does not exist" in note for note in found.notes)
    write_split(tmp_path / "test" / "images", tmp_path / "test" / "labels", "test", 2)
    assert len(content_of(find(tmp_path), "test")["images"]) == 2


def test_lists_of_images_and_of_folders(ultralytics: Path) -> None:
    write(ultralytics / "train.txt", "./images/train/train000.jpg\n\nimages/train/train001.jpg\n")
    write_split(ultralytics / "images" / "more", ultralytics / "labels" / "more", "more", 3)
    names = "names: [red, blue]\n"
    write(ultralytics / "data.yaml", f"path: /elsewhere\ntrain: train.txt\nval: [images/val, images/more]\n{names}")
    found = find(ultralytics)
    assert [image["file_name"] for image in content_of(found, "train")["images"]] == [
        "train/train000.jpg",
        "train/train001.jpg",
    ]
    assert len(content_of(found, "val")["images"]) == 7
    write(ultralytics / "train.txt", "./images/train/train000.jpg\n./images/train/none.jpg\n")
    with pytest.raises(DataError, match=r"train\.txt:2: the image \./images/train/none\.jpg does not exist"):
        find(ultralytics)


@pytest.mark.parametrize("notes", [False, True])
def test_class_names_of_a_text_file_and_images_that_are_divided(notes: bool, tmp_path: Path) -> None:
    """As Label Studio exports them."""
    write_split(tmp_path / "images", tmp_path / "labels", "x", 10)
    write(tmp_path / "classes.txt", "red\nblue\n")
    if notes:
        write_json(tmp_path / "notes.json", {"categories": []})
    found = find(tmp_path)
    assert (len(content_of(found, "train")["images"]), len(content_of(found, "val")["images"])) == (8, 2)
    assert any("no validation split" in note for note in found.notes)


def test_folders_without_data_yaml(ultralytics: Path) -> None:
    (ultralytics / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"no data\.yaml or classes\.txt with the names"):
        find(ultralytics)
    write(ultralytics / "classes.txt", "red\nblue")
    write_images(ultralytics / "images" / "unsure", ["a.jpg"])
    found = find(ultralytics)
    assert len(content_of(found, "val")["images"]) == 4
    assert any("left out: 1 images" in note for note in found.notes)


@pytest.mark.parametrize("layout", ["{}/images", "images/{}", "batch/{}/images"])
@pytest.mark.parametrize("words", [("Train", "Valid", "Test"), ("train2017", "val", "test2017")])
def test_folders_say_their_split_however_they_are_spelled(words: tuple[str, ...], layout: str, tmp_path: Path) -> None:
    for word, count in zip(words, (6, 3, 2), strict=True):
        images = tmp_path / layout.format(word)
        write_split(images, Path(str(images).replace("/images", "/labels")), word, count)
    write(tmp_path / "classes.txt", "red\nblue\n")
    assert counts_of(find(tmp_path)) == {"train": 6, "val": 3, "test": 2}


def test_folders_may_be_links(ultralytics: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    top = tmp_path_factory.mktemp("top")
    (ultralytics / "data.yaml").unlink()
    write(top / "classes.txt", "red\nblue\n")
    for name in ("images", "labels"):
        (top / name).symlink_to(ultralytics / name)
    assert counts_of(find(top)) == {"train": 6, "val": 4}


def test_without_a_training_folder_what_is_in_no_other_split_is_trained_on(tmp_path: Path) -> None:
    write_split(tmp_path / "images", tmp_path / "labels", "x", 10)
    write_split(tmp_path / "test" / "images", tmp_path / "test" / "labels", "test", 3)
    write(tmp_path / "classes.txt", "red\nblue\n")
    found = find(tmp_path)
    assert counts_of(found) == {"train": 8, "val": 2, "test": 3}
    assert any("the 10 images that are not of test are trained on" in note for note in found.notes)
    for folder in ("images", "labels"):
        (tmp_path / folder).rename(tmp_path / "test" / folder / "more")
    with pytest.raises(DataError, match="holds images of test alone: there are none to train on"):
        find(tmp_path)


def test_labels_beside_the_images(tmp_path: Path) -> None:
    write_split(tmp_path / "images" / "set", tmp_path / "images" / "set", "x", 6)
    write(tmp_path / "images" / "set" / "README.txt", "photographs")
    write(tmp_path / "data.yaml", "train: images/set\nnames: [red, blue]\n")
    assert len(content_of(find(tmp_path), "train")["annotations"]) + 1 == 6


def test_the_size_is_that_after_the_turn_of_exif(ultralytics: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 64)).save(ultralytics / "images" / "train" / "train000.jpg", exif=exif)
    train = content_of(find(ultralytics), "train")
    assert (train["images"][0]["width"], train["images"][0]["height"]) == (64, 96)
    assert train["annotations"][0]["bbox"] == [24, 24, 16, 48]


def test_what_is_worth_a_word_is_noted(ultralytics: Path) -> None:
    labels = ultralytics / "labels" / "train"
    (labels / "train000.txt").unlink()
    write(labels / "train001.txt", "")
    write(labels / "train002.txt", "0 0.25 0.5 0.75 0.5 0.5 1\n")
    found = find(ultralytics)
    notes = " ".join(found.notes)
    assert "1 of 6 images of train have no file of labels: they count as images without objects" in notes
    assert "1 labels of train are polygons" in notes
    rows = content_of(found, "train")["annotations"]
    assert len(rows) == 4
    assert rows[0]["bbox"] == [24, 32, 48, 32]


def test_a_split_without_objects_is_named(ultralytics: Path) -> None:
    for file in (ultralytics / "labels" / "val").iterdir():
        file.write_text("")
    with pytest.raises(DataError, match=r"data\.yaml: no boxes in val\nAnnotate some of its images, or leave val out"):
        find(ultralytics)


def test_every_label_that_is_wrong_is_named(ultralytics: Path) -> None:
    labels = ultralytics / "labels" / "train"
    write(labels / "train000.txt", "1 0.5 0.5 0.1 0.1\n\n5 0.5 0.5 0.1 0.1\n")
    write(labels / "train003.txt", "0 10 20 30 40\n")
    with pytest.raises(DataError) as error:
        find(ultralytics)
    text = str(error.value)
    assert text.startswith("2 faults in the annotations: ")
    assert f"{labels / 'train000.txt'}:3: there is no class 5" in text
    assert f"{labels / 'train003.txt'}:1: 10 lies outside 0 … 1" in text


def test_a_label_file_without_image_is_refused(ultralytics: Path) -> None:
    (ultralytics / "images" / "train" / "train002.jpg").unlink()
    with pytest.raises(DataError, match=r"labels/train/train002\.txt: there is no image train002 in \S*images/train"):
        find(ultralytics)


def test_a_label_of_an_image_with_an_unknown_ending_is_refused(ultralytics: Path) -> None:
    images = ultralytics / "images" / "train"
    for number, ending in ((1, ".jfif"), (2, ".JPG")):
        (images / f"train00{number}.jpg").rename(images / f"train00{number}{ending}")
    (images / "train003.jpg").rename(images / "train003.heic")
    with pytest.raises(DataError, match=r"^\S*train003\.txt: there is no image train003 in \S*images/train\n"):
        find(ultralytics)
    Image.new("RGB", (96, 64)).save(images / "train003.ppm")
    assert counts_of(find(ultralytics)) == {"train": 6, "val": 4}


def test_images_without_any_label_are_refused(ultralytics: Path) -> None:
    (ultralytics / "labels" / "val").rename(ultralytics / "labels" / "other")
    with pytest.raises(DataError, match=r"none of the 4 images of val has a file of labels"):
        find(ultralytics)


def test_a_test_split_without_labels_is_left_out(ultralytics: Path) -> None:
    write_images(ultralytics / "images" / "test", names_of("test", 3))
    with (ultralytics / "data.yaml").open("a") as file:
        file.write("test: images/test\n")
    found = find(ultralytics)
    assert found.data.test is None
    assert any("none of the 3 test images has labels" in note for note in found.notes)


def test_two_images_with_one_file_of_labels_are_told(ultralytics: Path) -> None:
    folder = ultralytics / "images" / "val"
    write_images(folder, ["val001.png"])
    (note,) = [note for note in find(ultralytics).notes if "one file of labels" in note]
    assert note.startswith("images of val")
    assert note.endswith(f"{folder / 'val001.jpg'} and {folder / 'val001.png'}")


@pytest.fixture
def darknet(tmp_path: Path) -> Path:
    """As CVAT's "YOLO 1.1" has it: 6 images to train on and 4 to validate on, labels beside them."""
    for role, count in (("train", 6), ("valid", 4)):
        folder = tmp_path / f"obj_{role}_data"
        write_split(folder, folder, role, count)
        write(tmp_path / f"{role}.txt", "".join(f"data/obj_{role}_data/{name}\n" for name in names_of(role, count)))
    write(tmp_path / "obj.names", "red\nblue\n\n")
    lists = "train = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
    write(tmp_path / "obj.data", f"classes = 2\n{lists}backup = backup/\n")
    return tmp_path


def test_the_layout_of_darknet_and_cvat(darknet: Path) -> None:
    found = find(darknet)
    assert counts_of(found) == {"train": 6, "val": 4}
    content = content_of(found, "train")
    assert content["categories"] == [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]
    assert content["annotations"][0]["bbox"] == [36, 16, 24, 32]


@pytest.mark.parametrize(
    ("line", "now", "words"),
    [
        ("names = data/obj.names", "", "obj.data: `names` is missing"),
        ("names = data/obj.names", "names = obj.txt", "obj.data:4: names: obj.txt does not exist"),
        ("train = data/train.txt", "", "obj.data: `train` is missing"),
        ("train = data/train.txt", "train = list.txt", "obj.data:2: train: list.txt does not exist"),
    ],
)
def test_faults_of_obj_data_are_named(line: str, now: str, words: str, darknet: Path) -> None:
    file = darknet / "obj.data"
    file.write_text(file.read_text().replace(line, now))
    with pytest.raises(DataError) as caught:
        find(darknet)
    assert words in caught.value.message


def test_splits_without_images_are_told_and_passed_over(ultralytics: Path) -> None:
    (ultralytics / "images" / "test").mkdir()
    write(ultralytics / "none.txt", "\n")
    with (ultralytics / "data.yaml").open("a") as file:
        file.write("test: [images/test, none.txt]\n")
    found = find(ultralytics)
    assert found.data.test is None
    assert any(
        "data.yaml:7: test: no image in" in note and note.endswith("none.txt: there is no test split")
        for note in found.notes
    )

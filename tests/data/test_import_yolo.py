from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.coco_files import names_of, write_images, write_json
from tuner.config.errors import ConfigError, DataError
from tuner.data.find_splits import FoundData, find_data
from tuner.data.import_formats import import_folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_split(images: Path, labels: Path, prefix: str, count: int, line: str = "1 0.5 0.5 0.25 0.5\n") -> None:
    names = names_of(prefix, count)
    write_images(images, names)
    for name in names:
        write(labels / f"{name[:-4]}.txt", line)


def find(root: Path) -> FoundData:
    return find_data(root, [root], None, None, stem=root / "study")


def content_of(found: FoundData, role: str) -> dict:
    return found.files[getattr(found.data, role)]


@pytest.fixture
def ultralytics(tmp_path: Path) -> Path:
    """Labels of 6 images to train on and 4 to validate on, each with one blue box from (36, 16), 24 x 32."""
    for role, count in (("train", 6), ("val", 4)):
        write_split(tmp_path / "images" / role, tmp_path / "labels" / role, role, count)
    write(tmp_path / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: red\n  1: blue\n")
    return tmp_path


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


def counts_of(found: FoundData) -> dict[str, int]:
    """Images of each split, by the folder in which they are."""
    roles = [role for role in ("train", "val", "test") if getattr(found.data, role) is not None]
    return {role: len(content_of(found, role)["images"]) for role in roles}


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images/train\n", r"data\.yaml: names: expected the class names"),
        ("train: images/train\nnames: red\n", r"data\.yaml:2: names: expected the class names"),
        ("train: images/train\nnames: {a: red}\n", r"data\.yaml:2: names: a: 'red' is no class index"),
        ("train: images/train\nnames: [red, blue]\nnc: 3\n", r"data\.yaml:3: nc: 3, but `names` has 2 classes"),
        ("val: images/val\nnames: [red, blue]\n", r"data\.yaml: `train` is missing"),
        ("names: [red, blue]\ntrain: images/none\n", r"data\.yaml:2: train: images/none does not exist"),
        ("names: [red, blue]\ntrain: 3\n", r"data\.yaml:2: train: expected a path or a list of paths, found 3"),
        ("names: [red, blue]\ntrain: labels/train\n", r"data\.yaml:2: train: no image in"),
        ("names: [red, blue]\ntrain: data.yaml\n", r"is neither a folder nor a \.txt list"),
        ("names: [red, red]\ntrain: images/train\n", "categories have the same name: red"),
        ("names: [red, blue]\ntrain: images/train\nkpt_shape: 3\n", r"data\.yaml:3: kpt_shape: 3, expected two whole"),
        ("names: [red\n", r"data\.yaml:2: not valid YAML"),
    ],
)
def test_faults_of_data_yaml_are_named_by_their_lines(text: str, words: str, ultralytics: Path) -> None:
    write(ultralytics / "data.yaml", text)
    with pytest.raises((ConfigError, DataError), match=words):
        find(ultralytics)


def test_two_descriptions_of_a_data_set_are_not_guessed_between(ultralytics: Path) -> None:
    text = (ultralytics / "data.yaml").read_text()
    (ultralytics / "data.yaml").unlink()
    write(ultralytics / "study.yaml", "name: cells\ndata: {root: .}\n")  # a study file is none
    write(ultralytics / "a.yaml", text)
    assert len(content_of(find(ultralytics), "train")["images"]) == 6
    write(ultralytics / "b.yml", text)
    with pytest.raises(DataError, match=r"a\.yaml and \S*b\.yml both name images and classes"):
        find(ultralytics)


def test_coco_files_come_first_and_two_other_formats_are_not_guessed_between(ultralytics: Path) -> None:
    (ultralytics / "data.yaml").rename(ultralytics.parent / "away.yaml")
    write(ultralytics / "Annotations" / "a.xml", "<annotation/>")
    with pytest.raises(DataError, match="as Pascal VOC has them"):
        find(ultralytics)
    write_json(ultralytics / "train.json", {})
    assert import_folder(ultralytics) is None


def test_xml_of_another_kind_is_passed_over(ultralytics: Path) -> None:
    (ultralytics / "data.yaml").unlink()
    write(ultralytics / "classes.txt", "red\nblue\n")
    write(ultralytics / "classes.label_config.xml", "<View>\n</View>\n")
    assert counts_of(find(ultralytics)) == {"train": 6, "val": 4}
    (ultralytics / "a.xml").write_text('<?xml version="1.0" encoding="utf-16"?><annotation/>', encoding="utf-16")
    with pytest.raises(DataError, match=r"as Pascal VOC has them, such as .*a\.xml, and as YOLO"):
        find(ultralytics)


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


def test_json_that_lists_no_images_does_not_stand_in_the_way(ultralytics: Path) -> None:
    write_json(ultralytics / ".vscode" / "settings.json", {"images": []})
    write_json(ultralytics / "dataset-metadata.json", {"title": "cells", "images": "many"})  # as Kaggle has it
    found = find(ultralytics)
    assert counts_of(found) == {"train": 6, "val": 4}
    assert any(note.startswith("left out: ") and "dataset-metadata.json" in note for note in found.notes)
    assert not any("settings.json" in note for note in found.notes)
    write_json(ultralytics / "annotations" / "all.json", {"annotations": [], "images": []})
    assert import_folder(ultralytics) is None


def test_yaml_of_another_kind_is_passed_over(ultralytics: Path) -> None:
    (ultralytics / "data.yaml").rename(ultralytics / "cells.yaml")
    write(ultralytics / "authors.yaml", "- Ann\n- Bob\n")
    write(ultralytics / "empty.yml", "")
    assert counts_of(find(ultralytics)) == {"train": 6, "val": 4}
    write(ultralytics / "data.yaml", "- train\n")
    with pytest.raises(ConfigError, match=r"data\.yaml: expected a mapping of keys to values, found a list"):
        find(ultralytics)


def test_a_broken_yaml_file_stops_only_where_no_other_describes_the_data_set(ultralytics: Path) -> None:
    cells = (ultralytics / "data.yaml").rename(ultralytics / "cells.yaml")
    write(ultralytics / "args.yaml", "train: [red\n")
    (ultralytics / "binary.yml").write_bytes(b"\xff\xfe\x80")
    assert counts_of(find(ultralytics)) == {"train": 6, "val": 4}
    write(cells, "names: [red\n")
    write(ultralytics / "training.yaml", "train: {epochs: 3}\n")
    with pytest.raises(ConfigError, match=r"args\.yaml:2: not valid YAML"):
        find(ultralytics)


def test_a_broken_yaml_file_beside_a_classes_file_is_told_and_passed_over(ultralytics: Path) -> None:
    write(ultralytics / "classes.txt", "red\nblue\n")
    broken = (ultralytics / "data.yaml").rename(ultralytics / "deployment.yaml")
    write(broken, "a: 1\n---\nb: 2\n")
    found = find(ultralytics)
    assert counts_of(found) == {"train": 6, "val": 4}
    note = next(note for note in found.notes if "deployment.yaml:2: not valid YAML" in note)
    assert "classes.txt names the classes, and this was passed over" in note
    broken.rename(ultralytics / "data.yaml")
    with pytest.raises(ConfigError, match=r"data\.yaml:2: not valid YAML"):
        find(ultralytics)


@pytest.mark.parametrize("line", ["val: ''", "test: ''", "test: []", "kpt_shape:"])
def test_keys_of_data_yaml_without_a_value_say_nothing(line: str, ultralytics: Path) -> None:
    write(ultralytics / "data.yaml", f"train: images/train\nnames: [red, blue]\n{line}\n")
    assert counts_of(find(ultralytics)) == {"train": 5, "val": 1}


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


@pytest.mark.parametrize("prefix", ["data/", "./data/"])
def test_lists_of_images_as_cvat_writes_them(prefix: str, ultralytics: Path) -> None:
    write(ultralytics / "train.txt", "".join(f"{prefix}images/train/{name}\n" for name in names_of("train", 6)))
    write(ultralytics / "data.yaml", "path: .\ntrain: train.txt\nval: images/val\nnames: {0: red, 1: blue}\n")
    assert counts_of(find(ultralytics)) == {"train": 6, "val": 4}


def test_names_of_classes_that_are_empty_are_refused(ultralytics: Path) -> None:
    write(ultralytics / "data.yaml", "train: images/train\nnames: ['', blue]\n")
    with pytest.raises(DataError, match=r"data\.yaml:2: names: 0: '' is no class index with its name"):
        find(ultralytics)
    (ultralytics / "data.yaml").unlink()
    write(ultralytics / "labels" / "classes.txt", "\n")
    with pytest.raises(DataError, match=r"labels/classes\.txt is empty: expected the names of the classes"):
        find(ultralytics)


@pytest.mark.parametrize("names", ["[1.50, 1.5, 1e3, true, +7]", "{0: 1.50, 1: 1.5, 2: 1e3, 3: true, 4: +7}"])
def test_names_of_classes_stay_as_they_are_written(names: str, ultralytics: Path) -> None:
    write(ultralytics / "data.yaml", f"train: images/train\nval: images/val\nnc: 5\nnames: {names}\n")
    categories = content_of(find(ultralytics), "train")["categories"]
    assert [row["name"] for row in categories] == ["1.50", "1.5", "1e3", "true", "+7"]
    write(ultralytics / "data.yaml", "train: images/train\nnames: [~, blue]\n")
    with pytest.raises(DataError, match=r"data\.yaml:2: names: 0: None is no class index with its name"):
        find(ultralytics)

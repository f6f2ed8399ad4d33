from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.coco_files import coco, names_of, write_images, write_json
from tuner.config.errors import DataError
from tuner.config.study import DataSpec
from tuner.data.annotation_files import split_files
from tuner.data.annotations import read_content
from tuner.data.coco import load_dataset
from tuner.data.divide import divide
from tuner.data.find_splits import find_data
from tuner.data.roles import role_of


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("train.json", "train"),
        ("instances_val2017.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("x/my-test.json", "test"),
        ("constraint.json", None),
        ("my-test-data/all.json", None),
        ("train2017/all.json", "train"),
        ("test/train.json", "train"),
    ],
)
def test_roles_by_name(path: str, role: str | None) -> None:
    assert role_of(Path(path)) == role


def test_names_that_say_nothing_are_refused(tmp_path: Path) -> None:
    a, b, val = (write_json(tmp_path / name, {"images": []}) for name in ("a.json", "b.json", "val.json"))
    with pytest.raises(DataError, match=r"cannot tell which split this is: .*a\.json; .*b\.json"):
        split_files([a, b])
    with pytest.raises(DataError, match="both look like the val split"):
        split_files([a, val, write_json(tmp_path / "val_2.json", {})])
    assert split_files([a], b)[0] == {"train": a, "val": b}
    assert split_files([a, val])[0] == {"train": a, "val": val}


@pytest.mark.parametrize(
    ("names", "splits", "left_out"),
    [
        (["annotations", "test"], {"train": "annotations", "test": "test"}, []),
        (["coco", "val"], {"train": "coco", "val": "val"}, []),
        (["test"], {"train": "test"}, []),
        (["train", "val", "all", "minival"], {"train": "train", "val": "val"}, ["all", "minival"]),
        (
            ["instances_default", "cells_train", "cells_val"],
            {"train": "cells_train", "val": "cells_val"},
            ["instances_default"],
        ),
        (
            ["instances_train2017", "captions_train2017", "instances_val2017"],
            {"train": "instances_train2017", "val": "instances_val2017"},
            ["captions_train2017"],
        ),
        (["instances_default", "val"], {"train": "instances_default", "val": "val"}, []),
    ],
)
def test_no_file_of_a_folder_is_passed_over_in_silence(
    names: list[str], splits: dict[str, str], left_out: list[str], tmp_path: Path
) -> None:
    for name in names:
        write_json(tmp_path / f"{name}.json", {})
    found, notes = split_files([tmp_path])
    assert {role: path.stem for role, path in found.items()} == splits
    assert len(notes) == bool(left_out)
    for name in left_out:
        assert str(tmp_path / f"{name}.json") in notes[0]


def test_several_files_of_a_folder_that_may_be_the_training_split_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b", "val"):
        write_json(tmp_path / f"{name}.json", {"images": []})
    with pytest.raises(DataError, match=r"cannot tell which split this is: \S*a\.json; \S*b\.json\n"):
        split_files([tmp_path])
    found, notes = split_files([tmp_path / "a.json", tmp_path / "val.json"], tmp_path / "b.json")
    assert found == {"train": tmp_path / "a.json", "val": tmp_path / "b.json"}
    assert "val.json" in notes[0]
    with pytest.raises(DataError, match="cannot tell"):  # not train and val at once
        split_files([tmp_path / "val.json"], tmp_path / "val.json")


def test_files_of_a_tool_that_writes_one_for_each_image_are_counted_and_called_so(tmp_path: Path) -> None:
    for i in range(9):
        write_json(tmp_path / "ann" / f"{i}.jpg.json", {"size": {"width": 96, "height": 64}, "objects": []})
    with pytest.raises(
        DataError, match=r"no JSON file lists images, as COCO's do: .*0\.jpg\.json.* and 4 more"
    ) as error:
        split_files([tmp_path])
    assert "Convert the annotations to COCO JSON" in error.value.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [([{"image": "a.jpg", "annotations": []}], "a list at the top"), ({"_via_img_metadata": {}}, "none of images")],
)
def test_a_file_of_another_format_is_to_be_converted(content: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words) as error:
        read_content(write_json(tmp_path / "export.json", content))
    assert "Convert the annotations to COCO JSON" in error.value.hint


def test_hidden_files_are_no_annotations(tmp_path: Path) -> None:
    for name in (".vscode/settings.json", "all/.state.json", "all.json"):
        write_json(tmp_path / name, {})
    assert split_files([tmp_path]) == ({"train": tmp_path / "all.json"}, [])


def test_names_of_annotation_files_may_end_in_capitals(tmp_path: Path) -> None:
    train, val = (write_json(tmp_path / name, {}) for name in ("Train.JSON", "Val.JSON"))
    assert split_files([tmp_path])[0] == {"train": train, "val": val}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels/train/a.txt", b"0 .5 0.5 1e-1 0.1\n", ["as YOLO has it", "a.txt", "tuner init DIR"]),
        ("Annotations/a.xml", b"<annotation/>", ["as Pascal VOC has it", "a.xml", "tuner init DIR"]),
        ("train.json.gz", gzip.compress(b"{}", mtime=0), ["train.json.gz is compressed", "gunzip"]),
        ("notes.txt", b"0 boxes are wrong", ["no annotation file in"]),
    ],
)
def test_other_formats_are_named(name: str, content: bytes, words: list[str], tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        split_files([tmp_path])
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("names", [["a.json"], ["a.json", "b.json"], ["train/a.json", "train/b.json"]])
def test_files_of_labelme_are_named(names: list[str], tmp_path: Path) -> None:
    for name in names:
        write_json(tmp_path / name, {"version": "5", "shapes": [], "imagePath": "a.jpg"})
    with pytest.raises(DataError, match="as LabelMe has them"):
        find_data(tmp_path, [tmp_path], None, None, stem=tmp_path / "study")


def test_the_folder_of_one_split_leads_to_the_others(tmp_path: Path) -> None:
    for folder, count in (("train", 12), ("valid", 6)):
        write_images(tmp_path / folder, names_of(folder, count))
        write_json(tmp_path / folder / "_annotations.coco.json", coco(names_of(folder, count)))
    found = find_data(tmp_path / "train", [tmp_path / "train"], None, None, stem=tmp_path / "study")
    for path, content in found.files.items():
        path.write_text(json.dumps(content))
    dataset = load_dataset(found.data)
    assert dataset.train.file_names[0] == "train/train000.jpg"
    assert dataset.val.file_names[0] == "valid/valid000.jpg"
    (tmp_path / "valid" / "valid003.jpg").unlink()
    with pytest.raises(DataError, match=r"valid/_annotations\.coco\.json: 1 of 6 image files are missing: \S*valid003"):
        find_data(tmp_path / "train", [tmp_path / "train"], None, None, stem=tmp_path / "study")


def test_dividing_is_stratified_and_blind_to_the_order_of_images(tmp_path: Path) -> None:
    names = names_of("x", 60)
    write_images(tmp_path / "images", names)
    sides = []
    for order in (1, -1):
        content = coco(names)
        content["images"] = content["images"][::order]
        write_json(tmp_path / "all.json", content)
        split = load_dataset(DataSpec(root=tmp_path, train="all.json", val="all.json")).train
        train, val = divide(split)
        assert sorted([*train.tolist(), *val.tolist()]) == list(range(60))
        holds_rare = {name for name, n in zip(split.image_index, split.labels, strict=True) if n == 1}
        assert len(holds_rare & set(val.tolist())) == round(0.2 * len(holds_rare))
        assert len(val) == 12
        sides.append({split.file_names[i] for i in val})
    assert sides[0] == sides[1]


@pytest.mark.parametrize(("lengths", "put_aside"), [([9, 5, 30, 6, 3, 7], 15), ([20, 40], 20), ([60], 12)])
def test_frames_of_a_video_stay_together(tmp_path: Path, lengths: list[int], put_aside: int) -> None:
    names = names_of("x", 60)
    write_images(tmp_path / "images", names)
    content = coco(names)
    of = [f"video {video}" for video, length in enumerate(lengths) for _ in range(length)]
    for image, video in zip(content["images"], of, strict=True):
        image["video_id"] = video
    found = find_data(
        tmp_path / "images", [write_json(tmp_path / "all.json", content)], None, None, stem=tmp_path / "s"
    )
    train, val = (
        {image["video_id"] for image in found.files[path]["images"]} for path in (found.data.train, found.data.val)
    )
    assert len(found.files[found.data.val]["images"]) == put_aside
    alone = len(lengths) == 1
    assert train & val == (set(of) if alone else set())
    said = (
        "they are frames of one video (video_id), so val says little of others"
        if alone
        else ("classes in proportion, always the same ones, all frames of a video (video_id) on the same side")
    )
    assert any(note.endswith(said) for note in found.notes)


@pytest.mark.parametrize("count", range(2, 9))
@pytest.mark.parametrize("empty", [0, 1, 2])
@pytest.mark.parametrize("together", [1, 2, 3])
def test_at_most_half_of_few_images_are_put_aside(tmp_path: Path, count: int, empty: int, together: int) -> None:
    """Each class on so many images of its own; some images show nothing."""
    names = names_of("x", count + empty)
    write_images(tmp_path / "images", names)
    content = coco(names)
    content["categories"] = [{"id": k + 1, "name": f"class {k}"} for k in range(count)]
    content["annotations"] = [
        {
            "id": i + 1,
            "image_id": i + 1,
            "category_id": i // together + 1,
            "bbox": [8, 8, 9, 9],
            "area": 81,
            "iscrowd": 0,
        }
        for i in range(count)
    ]
    write_json(tmp_path / "all.json", content)
    split = load_dataset(DataSpec(root=tmp_path, train="all.json", val="all.json")).train
    train, val = divide(split)
    assert 1 <= len(val) <= len(train)
    assert set(val.tolist()) & set(range(count))
    assert set(train.tolist()) & set(range(count))


def test_datumaros_own_format_is_named_with_the_way_out(tmp_path: Path) -> None:
    content = {"info": {}, "categories": {"label": {"labels": [{"name": "dog"}]}}, "items": [{"id": "a"}]}
    write_json(tmp_path / "train.json", content)
    with pytest.raises(DataError, match=r"train\.json: annotations in Datumaro's own format") as error:
        find_data(tmp_path, [tmp_path], None, None, stem=tmp_path / "study")
    assert "datum convert" in error.value.hint

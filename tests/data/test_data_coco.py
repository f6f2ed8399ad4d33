import json
import subprocess
import sys

import numpy as np
import pytest

from tuner.config.errors import DataError
from tuner.data.coco import load_dataset, load_split


def test_a_split_holds_the_file_in_its_order_with_boxes_grouped_by_image(folder):
    split, report = load_split(folder.spec(), "train")
    assert split.file_names == ("train0.png", "train1.png", "train2.png")
    assert split.image_ids.tolist() == [5, 15, 25]
    assert split.offsets.tolist() == [0, 1, 1, 3]
    assert split.annotation_ids.tolist() == [2, 1, 7]
    assert split.boxes.tolist() == [[0, 0, 40, 30], [1.1, 2, 10, 5.3], [5, 5, 0.1, 0.2]]
    assert split.areas.tolist() == [1200, 20, 0.1 * 0.2]
    assert split.crowd.tolist() == [False, True, False]
    assert split.classes == ("dog", "cat")
    assert split.category_ids == (3, 90)
    assert split.labels.tolist() == [0, 1, 0]
    assert split.image_index.tolist() == [0, 2, 2]
    assert report.clean


def test_real_data_is_read_as_pycocotools_reads_it(real_spec):
    coco = pytest.importorskip("pycocotools.coco")
    dataset = load_dataset(real_spec)
    assert dataset.warnings == ()
    for split in dataset.splits:
        reference = coco.COCO()
        reference.dataset = json.loads(real_spec.path(getattr(real_spec, split.name)).read_text())
        reference.createIndex()
        assert len(split) == len(reference.imgs)
        for i, image_id in enumerate(split.image_ids.tolist()):
            expected = reference.imgToAnns[image_id]
            rows = slice(split.offsets[i], split.offsets[i + 1])
            assert split.boxes[rows].tolist() == [row["bbox"] for row in expected]
            assert split.areas[rows].tolist() == [row["area"] for row in expected]
            assert [split.category_ids[label] for label in split.labels[rows]] == [
                row["category_id"] for row in expected
            ]


def _change(content, path, value):
    *parents, last = path
    for key in parents:
        content = content[key]
    if value is KeyError:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["images"], [], ["no images"]),
        (["annotations"], [], ["no boxes in train", "the annotations you mean"]),
        (["categories"], [], ["no categories"]),
        (["images"], KeyError, ["'images' is missing"]),
        (["annotations"], {"a": 1}, ["'annotations' is not a list"]),
        (["images", 1, "id"], 5, ["1 image ids", "more than once: 5"]),
        (["annotations", 1, "id"], 1, ["1 annotation ids", "more than once: 1"]),
        (["categories", 1, "id"], 90, ["category ids", "90"]),
        (["categories", 1, "name"], "cat", ["same name: cat (id 3); cat (id 90)", "remove the one"]),
        (["annotations", 2, "image_id"], 26, ["annotation 7", "image_id 26"]),
        (["annotations", 2, "category_id"], 4, ["annotation 7", "category_id 4"]),
        (["annotations", 2, "category_id"], "3", ["annotation number 3", "'3'", "whole number", "without quotes"]),
        (["annotations", 2, "category_id"], 3.5, ["annotation number 3", "3.5", "whole number"]),
        (["annotations", 2, "image_id"], KeyError, ["annotation number 3 (id 7)", "'image_id'"]),
        (["annotations", 2, "bbox"], [1, 2, 3], ["annotation 7", "[1, 2, 3]", "four finite numbers"]),
        (["annotations", 2, "bbox"], [1, 2, 3, "4"], ["annotation 7", "four finite numbers"]),
        (["annotations", 2, "bbox"], [1, 2, 3, None], ["annotation 7", "four finite numbers"]),
        (["annotations", 2, "bbox"], [1, 2, float("nan"), 4], ["annotation 7", "nan"]),
        (["annotations", 2, "bbox"], [1, 2, float("inf"), 4], ["annotation 7", "inf"]),
        (["annotations", 2, "bbox"], [1, 2, True, 4], ["annotation 7", "[1, 2, True, 4]", "four finite numbers"]),
        (["annotations", 2, "bbox"], {"x": 1}, ["annotation 7", "four finite numbers"]),
        (["annotations", 2, "bbox"], [1, 2, 3, 10**400], ["annotation 7", "four finite numbers"]),
        (["annotations", 2, "area"], True, ["annotation 7", "area True", "finite number"]),
        (["annotations", 2, "area"], [4], ["annotation 7", "area [4]"]),
        (["categories", 1, "name"], "cat\n", ["category 3 ", "'cat\\n'", "Rename"]),
        (["categories", 1, "name"], "big\tcat", ["category 3 ", "'big\\tcat'", "Rename"]),
        (["categories", 1, "name"], " cat", ["category 3 ", "' cat'", "blank"]),
        (["categories", 1, "name"], " ", ["category 3 ", "' '", "blank"]),
        (["annotations", 2, "area"], float("nan"), ["annotation 7", "area nan"]),
        (["annotations", 2, "iscrowd"], "1", ["annotation 7", "iscrowd '1'"]),
        (["images", 1, "width"], 0, ["'train1.png'", "width 0"]),
        (["images", 1, "width"], "40", ["'train1.png'", "width '40'"]),
        (["images", 1, "height"], float("nan"), ["'train1.png'", "height nan"]),
        (["images", 1, "width"], True, ["'train1.png'", "width True"]),
        (["images", 1, "width"], 10**12, ["'train1.png'", "width 1000000000000"]),
        (["images", 1, "file_name"], "a" * 5000, ["1 of 3 image files"]),
        (["images", 1, "file_name"], "a" * 5000 + "/b.png", ["1 of 3 image files", "names in the annotation file"]),
        (["images", 1, "file_name"], ".", ["1 of 3 image files", "names in the annotation file start from"]),
        (["annotations", 1, "area"], -1, ["annotation 2", "area -1", "from 0"]),
        (["annotations", 1, "area"], 10**400, ["annotation 2", "area 1000"]),
        (["images", 1, "file_name"], 3, ["image number 2", "file_name 3"]),
        (["images", 1, "file_name"], "gone.png", ["1 of 3 image files", "gone.png"]),
        (["annotations", 1, "bbox"], [30, 20, 20, 5], ["annotation 2 of train0.png", "outside", "40 x 30"]),
        (["annotations", 1, "bbox"], [30, 20, 0, 5], ["annotation 2 of train0.png", "no area"]),
        (["annotations", 1, "bbox"], [30, 20, 5, -1], ["1 without area"]),
    ],
)
def test_a_fault_is_refused_by_name(folder, path, value, words):
    _change(folder.contents["train"], path, value)
    folder.write()
    with pytest.raises(DataError) as error:
        load_split(folder.spec(), "train")
    for word in words:
        assert word in str(error.value)


def test_broken_json_is_located(folder):
    (folder.root / "train.json").write_text('{"images": [],\n "annotations": [1,,2]}')
    with pytest.raises(DataError, match=r"train\.json: line 2, column 20"):
        load_split(folder.spec(), "train")
    (folder.root / "train.json").write_bytes(b"\xff\xd8\xff\xe0 a JPEG \x80")
    with pytest.raises(DataError, match=r"not a text in UTF-8|not valid JSON"):
        load_split(folder.spec(), "train")
    (folder.root / "train.json").write_text("{}\n{}\n")
    with pytest.raises(DataError, match="not one on each line"):
        load_split(folder.spec(), "train")
    (folder.root / "train.json").write_text("[1, 2]")
    with pytest.raises(DataError, match="a list at the top"):
        load_split(folder.spec(), "train")
    (folder.root / "train.json").write_text("null")
    with pytest.raises(DataError, match="null at the top"):
        load_split(folder.spec(), "train")
    (folder.root / "train.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deep"):
        load_split(folder.spec(), "train")
    (folder.root / "train.json").write_text('{"images": [], "x": ' + "9" * 5000 + "}")
    with pytest.raises(DataError, match=r"train\.json: a whole number of more than 4300 digits"):
        load_split(folder.spec(), "train")


def test_whole_numbers_may_have_a_point_and_what_is_optional_may_be_null(folder):
    plain, _ = load_split(folder.spec(), "train")
    content = folder.contents["train"]
    for row in (*content["images"], *content["annotations"]):
        row |= {key: float(value) for key, value in row.items() if key.endswith("id")}
    content["annotations"][0]["iscrowd"] = 1.0
    content["annotations"][1]["iscrowd"] = content["annotations"][2]["area"] = None
    folder.write()
    split, _ = load_split(folder.spec(), "train")
    for name in ("image_ids", "annotation_ids", "labels", "areas", "crowd"):
        assert getattr(split, name).tolist() == getattr(plain, name).tolist()


@pytest.mark.parametrize("area", [2**64, 2**63, 10**300])
def test_an_area_may_be_any_finite_number(folder, area):
    folder.contents["train"]["annotations"][1]["area"] = area
    folder.write()
    assert load_split(folder.spec(), "train")[0].areas[0] == float(area)


@pytest.mark.parametrize("name", ["naïve Katze", "猫", "big cat", "نیم‌فاصله", "cat: a #1 'x'"])
def test_names_of_classes_in_any_language(folder, name):
    folder.contents["train"]["categories"][1]["name"] = name
    folder.write()
    assert load_split(folder.spec(), "train")[0].classes[0] == name


@pytest.mark.parametrize("absent", [{}, {"bbox": None}, {"bbox": []}])
def test_a_box_follows_from_polygons_where_there_is_none(folder, absent):
    rows = folder.contents["train"]["annotations"]
    rows[1] = absent | {
        "id": 2,
        "image_id": 5,
        "category_id": 3,
        "segmentation": [[4, 5, 9.5, 5, 9.5, 20], [2, 6, 3, 7, 3, 6]],
    }
    folder.write()
    dataset = load_dataset(folder.spec())
    assert dataset.train.boxes[0].tolist() == [2, 5, 7.5, 15]
    assert dataset.train.areas[0] == 7.5 * 15
    assert dataset.reports["train"].from_polygons == 1
    assert any(text.startswith("1 of 3 annotations of train have polygons and no bbox") for text in dataset.warnings)


@pytest.mark.parametrize(
    ("polygons", "words"),
    [
        (None, "\nCOCO asks for one"),
        ([], "\nCOCO asks for one"),
        ([[1, 2, 3, 4]], ", and its polygons make none"),
        ([[1, 2, 3, 4, 5, 6, 7]], ", and its polygons make none"),
        ([[1, 2, 3, 4, 5, "6"]], ", and its polygons make none"),
        ({"counts": [], "size": []}, ", and its run-length mask is not decoded\nWrite the box of each mask"),
    ],
)
def test_what_is_no_polygon_makes_no_box(folder, polygons, words):
    rows = folder.contents["train"]["annotations"]
    row = {key: value for key, value in rows[1].items() if key != "bbox"} | {"segmentation": polygons}
    for absent in ({}, {"bbox": None}, {"bbox": []}):
        rows[1] = row | absent
        folder.write()
        with pytest.raises(DataError, match=rf"annotation number 2 \(id 2\) has no 'bbox'{words}"):
            load_dataset(folder.spec())


def test_a_class_that_is_looked_for_and_never_shown_is_pointed_out(folder):
    rows = folder.contents["train"]["annotations"]
    for row in rows:
        row["category_id"] = 90
    rows.append(rows[0] | {"id": 999, "category_id": 3, "iscrowd": 1})  # a crowd teaches nothing
    folder.write()
    untaught, _ = load_dataset(folder.spec()).warnings
    assert untaught.startswith("1 class has boxes in val and none in train: 'dog' (2): nothing can learn it")


def test_many_classes_of_one_split_alone_are_one_sentence(folder):
    more = [{"id": 100 + k, "name": f"c{k}"} for k in range(20)]
    for content in folder.contents.values():
        content["categories"] += more
    for name, classes in (("train", range(8)), ("val", range(8, 20))):
        rows = folder.contents[name]["annotations"]
        rows += [rows[0] | {"id": 1000 + k, "category_id": 100 + k, "iscrowd": 0} for k in classes]
    folder.write()
    untaught, unasked = load_dataset(folder.spec()).warnings
    assert untaught.startswith("12 classes have boxes in val and none in train: 'c8' (1); 'c9' (1)")
    assert "and 7 more: nothing can learn them, and mAP counts them as 0" in untaught
    assert unasked.startswith("8 classes have boxes in train and none in val: 'c0' (1)")
    assert unasked.endswith("mAP leaves them out, so that no trial is judged by them")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_fault(folder, encoding):
    text = (folder.root / "train.json").read_text()
    (folder.root / "train.json").write_text(text, encoding=encoding)
    assert len(load_split(folder.spec(), "train")[0])


def test_a_split_of_crowds_alone_is_refused(folder):
    for annotation in folder.contents["train"]["annotations"]:
        annotation["iscrowd"] = 1
    folder.write()
    with pytest.raises(DataError, match="all 3 boxes of train are crowd regions"):
        load_split(folder.spec(), "train")


def test_missing_parts_are_named(folder):
    with pytest.raises(DataError, match=r"nowhere\.json does not exist"):
        load_split(folder.spec(train="nowhere.json"), "train")
    with pytest.raises(DataError, match=r"image folder .*pictures does not exist"):
        load_split(folder.spec(images="pictures"), "train")
    with pytest.raises(DataError, match="no test split"):
        load_split(folder.spec(test=None), "test")
    assert load_dataset(folder.spec(test=None)).test is None


def test_splits_must_agree_on_categories(folder):
    folder.contents["val"]["categories"] = [{"id": 3, "name": "dog"}, {"id": 90, "name": "cow"}]
    folder.write()
    with pytest.raises(DataError, match=r"id 90 is 'cat' in train but 'cow' in val"):
        load_dataset(folder.spec())
    folder.contents["val"]["categories"] = [{"id": 3, "name": "dog"}, {"id": 90, "name": "cat"}, {"id": 4, "name": "x"}]
    folder.write()
    with pytest.raises(DataError, match=r"id 4 is missing in train but 'x' in val"):
        load_dataset(folder.spec())


def test_many_boxes_are_read_as_arrays(folder):
    rng = np.random.default_rng(0)
    count = 50_000
    xy, wh = rng.uniform(0, 20, (count, 2)), rng.uniform(1, 10, (count, 2))
    bbox = np.concatenate([xy, wh], axis=1).tolist()
    image = rng.choice([5, 15, 25], count).tolist()
    folder.contents["train"]["annotations"] = [
        {"id": i, "image_id": image[i], "category_id": 3, "bbox": bbox[i], "area": 1, "iscrowd": 0}
        for i in range(count)
    ]
    folder.write()
    split, _ = load_split(folder.spec(), "train")
    for index, image_id in enumerate((5, 15, 25)):
        expected = [i for i in range(count) if image[i] == image_id]
        assert split.annotation_ids[split.offsets[index] : split.offsets[index + 1]].tolist() == expected
    assert np.array_equal(split.boxes, np.array(bbox)[split.annotation_ids])


def test_only_batches_need_torch():
    modules = ["coco", "cache", "letterbox", "images", "fingerprint", "scenes", "image_checks"]
    code = "import sys, " + ", ".join(f"tuner.data.{name}" for name in modules) + "; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"

import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from tuner.config.errors import DataError
from tuner.data.cache import open_cache
from tuner.data.coco import load_dataset
from tuner.data.divide import divide
from tuner.data.fingerprint import Fingerprint, fingerprint, refuse_other_data
from tuner.data.letterbox import Canvas


def test_a_fingerprint_tells_what_differs(folder):
    spec = folder.spec()
    before = fingerprint(spec, load_dataset(spec))
    assert before.differences(fingerprint(spec, load_dataset(spec)), load_dataset(spec)) == []
    assert Fingerprint.model_validate_json(before.model_dump_json()) == before

    folder.contents["val"]["annotations"][1]["bbox"] = [0, 0, 39, 30]
    folder.contents["test"]["annotations"].pop()
    folder.write()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(
        folder.root / "images" / "train0.png"
    )
    after = fingerprint(spec, load_dataset(spec))
    assert before.differences(after, load_dataset(spec)) == [
        "train: image files have other sizes in bytes; the first difference is in train0.png",
        "val: as many boxes of each class, but other ids, image sizes, boxes or areas; "
        "the first difference is in val0.png",
        "test: 2 boxes, was 3",
        "test: 1 boxes of dog, was 2; the first difference is in test2.png",
    ]
    of_old = before.val.model_copy(update={"class_boxes": None, "ranges": None})
    old = before.model_copy(update={"val": of_old})
    assert "val: as many boxes of each class, but other ids, image sizes, boxes or areas" in old.differences(
        after, load_dataset(spec)
    )
    without_test = load_dataset(folder.spec(test=None))
    assert "test: the split is missing" in after.differences(fingerprint(spec, without_test), without_test)


def test_copies_of_boxes_that_a_study_was_begun_with_are_named(folder):
    """Fingerprints of before repair left copies out have them."""
    rows = folder.contents["train"]["annotations"]
    folder.contents["train"]["annotations"] = [*rows, {**rows[1], "id": 9}, {**rows[1], "id": 10}]
    folder.write()
    kept = fingerprint(folder.spec(), load_dataset(folder.spec()))
    begun = kept.model_copy(update={"on_bad_boxes": "repair"})
    spec = folder.spec(on_bad_boxes="repair")
    with pytest.raises(DataError) as caught:
        refuse_other_data(begun, spec, load_dataset(spec))
    assert "train: 3 boxes, was 5" in caught.value.message
    assert "copies of others, which repair kept in earlier versions" in caught.value.message
    assert "begin another study under another name; the results of this one stay" in caught.value.hint
    assert not any("copies" in text for text in kept.differences(begun, load_dataset(folder.spec())))


def test_a_fingerprint_is_free_of_the_folder_and_of_formatting(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere")
    (folder.root / "images").rename(other / "images")
    for name, content in folder.contents.items():
        (other / f"{name}.json").write_text(json.dumps(content, indent=2))
    moved = load_dataset(folder.spec(root=other))
    (other / "images").rename(folder.root / "images")
    here = load_dataset(folder.spec())
    first = fingerprint(folder.spec(), here)
    (folder.root / "images").rename(other / "images")
    assert first.differences(fingerprint(folder.spec(root=other), moved), moved) == []


def test_names_of_files_that_are_no_utf8(folder, tmp_path_factory):
    name = os.fsdecode(b"train\xff.png")
    (folder.root / "images" / "train0.png").rename(folder.root / "images" / name)
    folder.contents["train"]["images"][0]["file_name"] = name
    folder.write()
    spec = folder.spec()
    dataset = load_dataset(spec)
    assert dataset.train.file_names[0] == name
    assert not fingerprint(spec, dataset).differences(fingerprint(spec, dataset), dataset)
    assert len(open_cache(dataset.train, Canvas(64, 64), tmp_path_factory.mktemp("cache"))) == 3
    assert sum(map(len, divide(dataset.train))) == 3


def test_the_digest_of_file_names_stays(folder):
    names = [name.encode() for name in ("train0.png", "train1.png", "train2.png")]
    digest = hashlib.sha256(b"".join(len(name).to_bytes(8, "little") + name for name in names)).hexdigest()
    assert fingerprint(folder.spec(), load_dataset(folder.spec())).train.file_names == digest

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from yolo_layouts import write, write_split

from tuner.config.study import DataSpec
from tuner.data.split import Split


@pytest.fixture(params=["bccd", "raccoon"])
def real_spec(request, shared):
    root = shared / "data" / request.param
    return DataSpec(root=root, train="annotations/train.json", val="annotations/val.json", test="annotations/test.json")


class Folder:
    """A small COCO data set on disk, to be broken by a test in one way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "images").mkdir()
        self.contents = {}
        for name in ("train", "val", "test"):
            images = [{"id": 10 * i + 5, "file_name": f"{name}{i}.png", "width": 40, "height": 30} for i in range(3)]
            for i, image in enumerate(images):
                Image.fromarray(np.full((30, 40, 3), 60 * i, np.uint8)).save(root / "images" / image["file_name"])
            annotations = [
                {"id": 1, "image_id": 25, "category_id": 90, "bbox": [1.1, 2, 10, 5.3], "area": 20, "iscrowd": 1},
                {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 40, 30], "area": 1200, "iscrowd": 0},
                {"id": 7, "image_id": 25, "category_id": 3, "bbox": [5, 5, 0.1, 0.2]},
            ]
            categories = [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}]
            self.contents[name] = {"images": images, "annotations": annotations, "categories": categories}
        self.write()

    def write(self) -> None:
        for name, content in self.contents.items():
            (self.root / f"{name}.json").write_text(json.dumps(content))

    def spec(self, **changes) -> DataSpec:
        values = {"root": self.root, "train": "train.json", "val": "val.json", "test": "test.json"}
        return DataSpec(**(values | changes))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def make_split(tmp_path):
    """Write images and make a split of them, with boxes as a list of (image, label, xywh, crowd)."""

    def make(images, boxes=()):
        boxes = sorted(boxes, key=lambda row: row[0])
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"{i}.png")
        counts = np.bincount([row[0] for row in boxes], minlength=len(images)) if boxes else np.zeros(len(images))
        xywh = np.array([row[2] for row in boxes], np.float64).reshape(-1, 4)
        return Split(
            name="train",
            images_dir=tmp_path,
            file_names=tuple(f"{i}.png" for i in range(len(images))),
            image_ids=np.arange(len(images), dtype=np.int64),
            sizes=np.array([(image.shape[1], image.shape[0]) for image in images], np.int32),
            boxes=xywh,
            areas=xywh[:, 2:].prod(axis=1),
            labels=np.array([row[1] for row in boxes], np.int64),
            crowd=np.array([row[3] for row in boxes], np.bool_),
            annotation_ids=np.arange(len(boxes), dtype=np.int64),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            classes=("a", "b"),
            category_ids=(1, 2),
        )

    return make


@pytest.fixture
def ultralytics(tmp_path: Path) -> Path:
    """Labels of 6 images to train on and 4 to validate on, each with one blue box from (36, 16), 24 x 32."""
    for role, count in (("train", 6), ("val", 4)):
        write_split(tmp_path / "images" / role, tmp_path / "labels" / role, role, count)
    write(tmp_path / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: red\n  1: blue\n")
    return tmp_path

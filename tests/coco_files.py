"""Small COCO data sets on disk, as users have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = ["common", "rare: a 'class' #1"]


def coco(names: list[str], *, size: tuple[int, int] = (96, 64), empty_every: int = 7, rare_every: int = 5) -> Any:
    """An annotation file: one common object for each image, a rare one here and there, some images without objects."""
    images, annotations = [], []
    for i, name in enumerate(names):
        images.append({"id": i + 1, "file_name": name, "width": size[0], "height": size[1]})
        if i % empty_every == empty_every - 1:
            continue
        for category in (1, 4) if i % rare_every == 0 else (1,):
            bbox = [10, 5, 20 + i % 9, 30]
            row = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": category, "bbox": bbox}
            annotations.append({**row, "area": bbox[2] * bbox[3], "iscrowd": 0})
    categories = [{"id": 1, "name": CLASSES[0]}, {"id": 4, "name": CLASSES[1]}]
    return {"info": {"kept": True}, "images": images, "annotations": annotations, "categories": categories}


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (96, 64)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((size[1], size[0], 3), 90, np.uint8))


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def names_of(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i:03}.jpg" for i in range(count)]

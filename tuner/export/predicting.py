"""Running a trained model on images: annotated or not, one path for `predict`, `evaluate` and the test of `train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tuner.config.errors import DataError
from tuner.config.trial import Tiles
from tuner.data.image_checks import decoded_size
from tuner.data.split import Split
from tuner.export.model import LoadedModel, ModelConfig
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.nms import shown_at
from tuner.trainers.detection.fitting import as_many_as_fit, at_once_on
from tuner.trainers.detection.precision import Precision, inference_precision
from tuner.trainers.detection.tiling import predict_tiles

CHUNK = 256
"""Images whose raw predictions are held in memory at a time, where only those that are shown are wanted."""
BATCH = 8
"""Images or tiles that the network sees at a time, where memory holds as many."""

Told = Callable[[int, int], None]
"""Called now and then with the number of images that are done, and of all."""


def nobody(done: int, total: int) -> None:
    """Where nobody waits for the images."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """What production shows on image files.

    Attributes:
        split: The images that could be read, in the order asked for, without ground truth; its files are absolute.
        detections: What was found on them.
        faults: What is wrong with each of the other files, which have no result.
    """

    split: Split
    detections: Detections
    faults: tuple[str, ...]

    def by_image(self) -> list[tuple[Path, Detections]]:
        """Each image that could be read, and what was found on it."""
        return [(Path(name), self.detections.of_image(i)) for i, name in enumerate(self.split.file_names)]


def predict(
    model: LoadedModel, paths: Sequence[Path | str], *, tiles: Tiles | None = None, told: Told = nobody
) -> Predicted:
    """Detections on image files at the model's operating point.

    Args:
        model: Of `load_model`, on the device that computes.
        paths: Image files.
        tiles: How images are cut; None: as the model's operating point says.
        told: Hears how far it is.
    """
    split, faults = unlabelled_split([Path(path) for path in paths], model.info)
    return Predicted(split, predict_shown(model, split, tiles=tiles, told=told), tuple(faults))


def unlabelled_split(paths: Sequence[Path], info: ModelConfig) -> tuple[Split, list[str]]:
    """A split without ground truth from those of the image files that can be decoded to their end; ids are 1 … N.

    Returns:
        The split, and what is wrong with each of the other files.
    """

    def size_or_fault(path: Path) -> tuple[int, int] | str:
        try:
            return decoded_size(path)
        except DataError as error:
            return error.message

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(size_or_fault, paths))
    whole = [(path, size) for path, size in zip(paths, found, strict=True) if not isinstance(size, str)]
    split = Split(
        name="images",
        images_dir=Path(),
        file_names=tuple(str(path.absolute()) for path, _ in whole),
        image_ids=np.arange(1, len(whole) + 1, dtype=np.int64),
        sizes=np.array([size for _, size in whole], np.int32).reshape(-1, 2),
        **_no_annotations(len(whole)),
        classes=info.classes,
        category_ids=info.category_ids,
    )
    return split, [fault for fault in found if isinstance(fault, str)]


def _no_annotations(images: int) -> dict[str, Any]:
    return {
        "boxes": np.zeros((0, 4)),
        "areas": np.zeros(0),
        "labels": np.zeros(0, np.int64),
        "crowd": np.zeros(0, np.bool_),
        "annotation_ids": np.zeros(0, np.int64),
        "offsets": np.zeros(images + 1, np.int64),
    }


def images_of(split: Split, rows: slice) -> Split:
    """Some images of a split, without their annotations."""
    names = split.file_names[rows]
    return replace(
        split,
        file_names=names,
        image_ids=split.image_ids[rows],
        sizes=split.sizes[rows],
        **_no_annotations(len(names)),
    )


def predict_raw(model: LoadedModel, split: Split, *, tiles: Tiles | None = None, told: Told = nobody) -> RawPredictions:
    """Raw predictions on a split, whatever its annotations.

    Args:
        model: On the device that computes.
        split: Images of any sizes.
        tiles: How images are cut; None: as the model's operating point says.
        told: Hears how far it is.

    Raises:
        DataError: An image cannot be read, or has another size than the split says; named.
    """
    tiles = tiles or model.operating_point.tiles
    return _joined(list(_predict_chunks(model, split, tiles, told)), RawPredictions)


def predict_shown(model: LoadedModel, split: Split, *, tiles: Tiles | None = None, told: Told = nobody) -> Detections:
    """What production shows on a split; see `predict_raw` and `shown_at`."""
    point, most = model.operating_point, model.config.max_detections
    chunks = _predict_chunks(model, split, tiles or point.tiles, told)
    return _joined([shown_at(raw, point, model.classes, max_detections=most) for raw in chunks], Detections)


def _predict_chunks(model: LoadedModel, split: Split, tiles: Tiles, told: Told) -> Iterator[RawPredictions]:
    at_once = at_once_on(model.device, BATCH, model.config, model.canvas, len(model.classes))
    precision = inference_precision(model.config, model.device)
    told(0, len(split))
    for start in range(0, len(split), CHUNK):
        part = images_of(split, slice(start, start + CHUNK))
        found, at_once = as_many_as_fit(at_once, partial(_predict_part, model, part, tiles, precision))
        yield found
        told(min(start + CHUNK, len(split)), len(split))


def _predict_part(model: LoadedModel, part: Split, tiles: Tiles, precision: Precision, at_once: int) -> RawPredictions:
    return predict_tiles(model.detector, part, tiles, model.canvas, precision, at_once)


Boxes = TypeVar("Boxes", RawPredictions, Detections)


def _joined(parts: Sequence[Boxes], kind: type[Boxes]) -> Boxes:
    nothing = kind(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(1, np.int64))
    every = list(parts) or [nothing]
    counts = np.concatenate([np.diff(part.offsets) for part in every])
    return kind(
        np.concatenate([part.boxes for part in every]),
        np.concatenate([part.scores for part in every]),
        np.concatenate([part.labels for part in every]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def coco_json(detections: Detections, split: Split, info: ModelConfig) -> dict[str, Any]:
    """Detections as a COCO data set whose annotations carry a score.

    Category ids are those of the training annotations; `bbox` is xywh in pixels of the original image, so that
    the `annotations` list alone is a COCO results list.
    """
    xywh = detections.xywh(slice(None))
    annotations = [
        {
            "id": i + 1,
            "image_id": int(split.image_ids[image]),
            "category_id": info.category_ids[int(detections.labels[i])],
            "bbox": [round(v, 3) for v in xywh[i].tolist()],
            "area": round(float(xywh[i, 2] * xywh[i, 3]), 3),
            "iscrowd": 0,
            "score": round(float(detections.scores[i]), 6),
        }
        for i, image in enumerate(detections.image_index.tolist())
    ]
    images = [
        {"id": int(i), "file_name": name, "width": int(w), "height": int(h)}
        for i, name, (w, h) in zip(split.image_ids, split.file_names, split.sizes, strict=True)
    ]
    categories = [{"id": i, "name": name} for i, name in zip(info.category_ids, info.classes, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}

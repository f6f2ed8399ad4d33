"""Detections of any toolkit, from a COCO results JSON, with every fault named; and whether they are raw."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from tuner.config.errors import DataError, listed
from tuner.data.json_file import read_json
from tuner.data.split import Split
from tuner.models.predictions import RawPredictions
from tuner.postprocess.nms_many import suppress_many

_KEYS = ("image_id", "category_id", "bbox", "score")
_BROKEN = "Look for the cause in the detector or in what wrote the file; no result is left out silently."
_BYTES_FOR_A_BYTE = 8
"""Memory that a byte of JSON takes while it is read."""
_DUPLICATE = 0.9
"""Raw predictions of any detector hold boxes of one class that overlap by more than this; suppressed ones do not."""


def read_results(path: Path, split: Split) -> RawPredictions:
    """Read a COCO results list (or an object with it as `annotations`) for a split.

    Args:
        path: The JSON file; boxes are xywh in pixels of the original images.
        split: The ground truth, whose ids it must use.

    Raises:
        DataError: The file is missing, too large for the memory, is not JSON or no list of results; ids are unknown to
            the ground truth; boxes or scores are not finite; sizes are negative; scores lie outside 0 … 1. Each with
            its count.
    """
    rows = _rows(path)
    try:
        image_ids, category_ids, boxes, scores = (_column(rows, key, path) for key in _KEYS)
        xywh = _numbers(boxes, (len(rows), 4), "bbox", "four numbers", path)
        score = _numbers(scores, (len(rows),), "score", "a number", path)
    except MemoryError:
        raise DataError(
            f"{path}: {len(rows)} detections do not fit into memory",
            hint="Leave out detections with the lowest scores.",
        ) from None
    image = _index(image_ids, split.image_ids.tolist(), "image", path)
    labels = _index(category_ids, list(split.category_ids), "category", path)
    _refuse(~(np.isfinite(xywh).all(axis=1) & np.isfinite(score)), "NaN or infinite boxes or scores", path, _BROKEN)
    _refuse((xywh[:, 2:] < 0).any(axis=1), "a negative width or height", path, "COCO's bbox is [x, y, width, height].")
    _refuse((np.abs(xywh) > 1e6).any(axis=1), "coordinates beyond a million pixels", path)
    percent = score.min(initial=0.0) >= 0 and score.max(initial=0.0) <= 100
    hint = "Divide by 100 if they are percentages." if percent else "Convert logits to probabilities."
    _refuse((score < 0) | (score > 1), "a score outside 0 … 1", path, hint)
    order = np.lexsort((-score, image))
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)[order]
    counts = np.bincount(image, minlength=len(split))
    return RawPredictions(
        boxes=xyxy.astype(np.float32),
        scores=score[order],  # not rounded: a threshold must be a score that stands in the file
        labels=labels[order],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        stated=xywh[order],  # nor these: IoUs that lie exactly on a threshold are decided by the last digit
    )


def suppressed_at(raw: RawPredictions) -> float | None:
    """Whether predictions have been through NMS: the highest overlap of boxes of one class, to 0.05 above it.

    Returns:
        The IoU at which suppression no longer changes anything, or None where boxes overlap as raw ones do.
    """
    values = [round(0.05 * i, 2) for i in range(1, 19)]
    assert values[-1] == _DUPLICATE
    _, kept = suppress_many(raw, values, max_detections=max(len(raw.scores), 1))
    return next((value for value, row in zip(values, kept, strict=True) if row.sum() == len(raw.scores)), None)


def limits(raw: RawPredictions, split: Split, at: float | None) -> list[str]:
    """Sentences on what these predictions, `suppressed_at` an IoU, cannot tell, as something was cut from them."""
    found = []
    if at is not None and len(raw.scores):
        found.append(
            f"These detections seem to be suppressed already: no two of a class overlap by more than {at:.2f}. Above "
            "it NMS IoU has no effect; below it, and for Soft-NMS and fusion, results differ from those on raw "
            "predictions, because the boxes that were suppressed are missing. Write predictions before NMS to judge "
            "these."
        )
    least = float(raw.scores.min(initial=1.0))
    if len(raw.scores) > 1 and least == raw.scores.max():
        found.append(
            f"All scores are {least:.3f}: AP means nothing, and there is no threshold to choose. Let the detector "
            "write its scores."
        )
    elif len(raw.scores) and least > 0.05:
        found.append(f"No score is below {least:.3f}: AP lacks the end of its curve, and lower thresholds are unknown.")
    counts = np.diff(raw.offsets)
    most = int(counts.max(initial=0))
    full = int((counts == most).sum())
    if most >= 10 and full > max(1, len(counts) // 20):
        found.append(f"{full} images have exactly {most} detections: there seems to be a cap, and more are missing.")
    empty = int((counts == 0).sum())
    if empty:
        found.append(f"{empty} of {len(split)} images have no detections; they count as images where nothing is found.")
    flat = int((raw.boxes[:, 2:] <= raw.boxes[:, :2]).any(axis=1).sum())
    if flat:
        found.append(f"{flat} detections have no area; they count as wrong.")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    _check_memory(path)
    content = read_json(path, "file of results")
    if isinstance(content, dict):
        content = content.get("annotations")
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(
            f"{path}: not a list of COCO results",
            hint='Each is {"image_id": …, "category_id": …, "bbox": [x, y, width, height], "score": …}.',
        )
    return content


def _check_memory(path: Path) -> None:
    """Refuse what would fill the memory, before the system ends the process without a word."""
    size = path.stat().st_size if path.is_file() else 0
    needed, free = _BYTES_FOR_A_BYTE * size, psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"{path}: to read {size / 2**20:.0f} MiB of results takes about {needed / 2**30:.1f} GiB of memory, of "
            f"which {free / 2**30:.1f} GiB are free",
            hint="Leave out detections with the lowest scores, or judge some of the images at a time.",
        )


def _column(rows: list[dict[str, Any]], key: str, path: Path) -> list[Any]:
    try:
        return [row[key] for row in rows]
    except KeyError:
        at = next(i for i, row in enumerate(rows) if key not in row)
        missing = sum(key not in row for row in rows)
        hint = "This looks like an annotation file: give it with --data." if key == "score" else ""
        raise DataError(
            f"{path}: {missing} of {len(rows)} results have no {key!r}, first number {at + 1}", hint=hint
        ) from None


def _numbers(values: list[Any], shape: tuple[int, ...], key: str, expected: str, path: Path) -> NDArray[np.float64]:
    try:
        parts = values if len(shape) == 1 else list(chain.from_iterable(values))
        if not set(map(type, parts)) <= {int, float}:
            raise TypeError  # texts and booleans, which numpy would take for numbers
        return np.array(values, dtype=np.float64).reshape(shape)
    except (ValueError, TypeError, OverflowError):
        size = 1 if len(shape) == 1 else shape[1]
        at = next((i for i, value in enumerate(values) if not _is_numbers(value, size)), 0)
        raise DataError(f"{path}: result number {at + 1} has {key} {values[at]!r}, expected {expected}") from None


def _is_numbers(value: Any, size: int) -> bool:
    parts = [value] if size == 1 else value
    return isinstance(parts, list) and len(parts) == size and all(type(part) in (int, float) for part in parts)


def _index(ids: list[Any], known: list[int], what: str, path: Path) -> NDArray[np.int64]:
    place = {value: i for i, value in enumerate(known)}
    bad = [value for value in ids if type(value) is not int or value not in place]
    if bad:
        different = list(dict.fromkeys(map(repr, bad)))
        hint = "Give the ground truth that these results were made for, and keep its ids."
        if what == "image" and all(isinstance(value, str) and not value.isdecimal() for value in bad):
            hint = "For the name of a file write the id that the ground truth gives to the image of that file."
        elif any(isinstance(value, str | float) for value in bad):
            hint = "Write ids as whole numbers, as the ground truth does."
        elif what == "category" and min(map(_whole, bad)) == 0:
            hint = "Ids that count classes from 0 must be turned into the category ids of the ground truth."
        raise DataError(
            f"{path}: {len(bad)} of {len(ids)} results name {len(different)} {what} ids that the ground truth does not "
            f"have: {listed(different)}; it has {listed(known)}",
            hint=hint,
        )
    return np.array([place[value] for value in ids], dtype=np.int64)


def _whole(value: Any) -> int:
    return value if type(value) is int else -1


def _refuse(bad: NDArray[np.bool_] | np.bool_, what: str, path: Path, hint: str = "") -> None:
    if bad.any():
        first = int(np.flatnonzero(bad)[0]) + 1
        raise DataError(f"{path}: {bad.sum()} of {bad.size} results have {what}, first number {first}", hint=hint)

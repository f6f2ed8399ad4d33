"""Suppression and matching written from their definitions, one box at a time."""

from __future__ import annotations

import numpy as np


def iou(a, b, *, crowd=False) -> float:
    """IoU of two xyxy boxes; of a box `a` with a crowd `b`: the share of `a` that lies in it."""
    a, b = [float(v) for v in a], [float(v) for v in b]
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1])
    return width * height / (area if crowd else area + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def greedy(boxes, scores, groups, threshold) -> list[int]:
    """Take the best box that is left, remove all of its group that overlap it too much, repeat."""
    left = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best, *left = left
        kept.append(best)
        left = [i for i in left if groups[i] != groups[best] or iou(boxes[i], boxes[best]) <= threshold]
    return kept


def count(split, image, labels, boxes, scores, threshold=0.5) -> tuple[int, int]:
    """True and false positives by COCO's rule; detections in the order in which ties are served."""
    free = np.ones(len(split.boxes), dtype=bool)
    corners = np.concatenate([split.boxes[:, :2], split.boxes[:, :2] + split.boxes[:, 2:]], axis=1)
    right = wrong = 0
    for d in sorted(range(len(scores)), key=lambda i: -scores[i]):
        candidates = [
            (not split.crowd[g], iou(boxes[d], corners[g], crowd=split.crowd[g]), g)
            for g in range(split.offsets[image[d]], split.offsets[image[d] + 1])
            if split.labels[g] == labels[d] and (free[g] or split.crowd[g])
        ]
        candidates = [c for c in candidates if c[1] >= threshold]
        if not candidates:
            wrong += 1
            continue
        counts, _, taken = max(candidates)
        free[taken] = False
        right += counts
    return right, wrong

"""Suppression and matching written from their definitions, one box at a time."""

from __future__ import annotations

import math

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


def vote(boxes, scores, labels, i, sigma=0.05) -> list[float]:
    """Kim & Lee 2020, eq. 4: the mean of all boxes of the label that overlap box i, the closer the more they weigh."""
    overlaps = [iou(boxes[i], box) if label == labels[i] else 0.0 for box, label in zip(boxes, labels, strict=True)]
    fading = [math.exp(-((1 - o) ** 2) / sigma) if o else 0.0 for o in overlaps]
    weights = [float(score) * fade for score, fade in zip(scores, fading, strict=True)]
    total = sum(weights)
    if not total:
        return [float(v) for v in boxes[i]]
    return [sum(w * float(box[c]) for w, box in zip(weights, boxes, strict=True)) / total for c in range(4)]


def diou(a, b) -> float:
    """Zheng et al. 2020: IoU less the squared distance of the centres over the squared diagonal around both."""
    a, b = [float(v) for v in a], [float(v) for v in b]
    centres = ((a[0] + a[2]) / 2 - (b[0] + b[2]) / 2) ** 2 + ((a[1] + a[3]) / 2 - (b[1] + b[3]) / 2) ** 2
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    return iou(a, b) - (centres / diagonal if diagonal else 0.0)


def diou_nms(boxes, scores, labels, threshold) -> list[int]:
    """Zheng et al. 2020, eq. 9: a box stays while its DIoU with the best box is below the threshold."""
    left = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best, *left = left
        kept.append(best)
        left = [i for i in left if labels[i] != labels[best] or diou(boxes[best], boxes[i]) < threshold]
    return kept


def soft(boxes, scores, labels, weight) -> list[tuple[int, float]]:
    """Bodla et al. 2017, figure 2: move the best box to the result, rescale all others by `weight` of the IoU."""
    left = {i: float(score) for i, score in enumerate(scores)}
    result = []
    while left:
        best = min(left, key=lambda i: (-left[i], i))
        result.append((best, left.pop(best)))
        for i in left:
            if labels[i] == labels[best]:
                left[i] *= weight(iou(boxes[best], boxes[i]))
    return result


def soft_linear(boxes, scores, labels, threshold):
    return soft(boxes, scores, labels, lambda o: 1.0 if o < threshold else 1.0 - o)


def soft_gaussian(boxes, scores, labels, sigma):
    return soft(boxes, scores, labels, lambda o: math.exp(-(o**2) / sigma))


def fuse(boxes, scores, labels, threshold) -> list[tuple[int, list[float], float]]:
    """Solovyev et al. 2021, section 3.2, for one model: first member, fused box and score, by descending score."""
    members, fused = [], []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        overlaps = [iou(boxes[i], f) if labels[m[0]] == labels[i] else 0.0 for m, f in zip(members, fused, strict=True)]
        if overlaps and max(overlaps) > threshold:
            cluster = overlaps.index(max(overlaps))
            members[cluster].append(i)
        else:
            cluster = len(members)
            members.append([i])
            fused.append([float(v) for v in boxes[i]])
        total = sum(float(scores[j]) for j in members[cluster])
        if total > 0:
            fused[cluster] = [
                sum(float(scores[j]) * float(boxes[j][c]) for j in members[cluster]) / total for c in range(4)
            ]
    means = [sum(float(scores[j]) for j in m) / len(m) for m in members]
    order = sorted(range(len(members)), key=lambda c: (-means[c], members[c][0]))
    return [(members[c][0], fused[c], means[c]) for c in order]


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

"""Clustering of box sizes into anchors: by 1 - IoU, by Euclidean distance, and by YOLOv5's ratio metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Distance = Literal["iou", "wh", "ratio"]
FloatArray = NDArray[np.float64]

RATIO_LIMIT = 4.0
"""YOLOv5 matches a box with an anchor when neither side differs by more than this factor."""

_SAME_BITS = 16
_RESTARTS = 10
_MAX_ITERATIONS = 300
_GENERATIONS = 1000


def iou(sizes: FloatArray, anchors: FloatArray) -> FloatArray:
    """(N, A) IoU of concentric boxes of (N, 2) and (A, 2) (width, height) pairs."""
    overlap = np.minimum(sizes[:, None, 0], anchors[:, 0]) * np.minimum(sizes[:, None, 1], anchors[:, 1])
    return np.asarray(overlap / (sizes.prod(1)[:, None] + anchors.prod(1) - overlap))


def ratio(sizes: FloatArray, anchors: FloatArray) -> FloatArray:
    """(N, A) YOLOv5's similarity: the worse of the two side ratios, each smaller over larger, in 0 … 1."""
    quotient = sizes[:, None] / anchors
    return np.asarray(np.minimum(quotient, 1 / quotient).min(axis=2))


def distinct(sizes: FloatArray) -> FloatArray:
    """Those of (N, 2) positive sizes that differ, (M, 2): by more than arithmetic leaves, about 1 part in 100,000."""
    mantissa, exponent = np.frexp(sizes)
    rounded = np.ldexp(np.rint(np.ldexp(mantissa, _SAME_BITS)), exponent)
    _, first = np.unique(rounded, axis=0, return_index=True)
    return np.asarray(sizes[first])


def cluster(sizes: FloatArray, k: int, distance: Distance, weights: FloatArray | None = None) -> FloatArray:
    """Find k box sizes that stand for many.

    "iou" (Redmon and Farhadi, YOLO9000, 2017) and "wh" are k-means with 1 - IoU and with the Euclidean
    distance; the best of several k-means++ starts (Arthur and Vassilvitskii, 2007). "ratio" goes on from
    "wh" by evolution towards the fitness that YOLOv5's autoanchor maximises.

    Where there are no more than k `distinct` sizes, all of them are returned, and the rest are copies
    enlarged by fractions of an octave (as RetinaNet multiplies its anchors).

    Args:
        sizes: (N, 2) (width, height), positive, N > 0.
        k: Number of clusters.
        distance: The distance, see above.
        weights: (N,) positive; default: all alike. Only their ratios matter.

    Returns:
        (k, 2) (width, height), by ascending area; a function of the arguments alone.
    """
    points, inverse = np.unique(sizes, axis=0, return_inverse=True)
    weights = np.bincount(inverse.ravel(), weights=weights, minlength=len(points)).astype(np.float64)
    weights = weights / weights.sum()
    different = distinct(points)
    if len(different) <= k:
        centroids = _octaves(different, k)
    else:
        rng = np.random.default_rng(0)
        centroids = _kmeans(points, weights, k, _one_minus_iou if distance == "iou" else _squared_euclidean, rng)
        if distance == "ratio":
            centroids = _evolve(points, weights, centroids, rng)
    return centroids[np.argsort(centroids.prod(axis=1), kind="stable")]


def _log_fitness(log_sizes: FloatArray, weights: FloatArray, log_anchors: FloatArray) -> float:
    """YOLOv5's fitness: weighted mean (weights of sum 1) of each box's best `ratio`, 0 where beyond the limit."""
    # The worse side ratio is exp(-max |log difference|): without quotients, and with one exponential per box.
    width, height = (np.abs(log_anchors[:, side, None] - log_sizes[:, side]) for side in (0, 1))
    nearest = np.maximum(width, height).min(axis=0)
    return float(weights @ (np.exp(-nearest) * (nearest < np.log(RATIO_LIMIT))))


def _one_minus_iou(points: FloatArray, centroids: FloatArray) -> FloatArray:
    return 1 - iou(points, centroids)


def _squared_euclidean(points: FloatArray, centroids: FloatArray) -> FloatArray:
    return np.asarray(((points[:, None] - centroids) ** 2).sum(axis=2))


def _kmeans(
    points: FloatArray,
    weights: FloatArray,
    k: int,
    cost: Callable[[FloatArray, FloatArray], FloatArray],
    rng: np.random.Generator,
) -> FloatArray:
    """The cheapest centroids of several starts."""
    runs = [_lloyd(points, weights, _plus_plus(points, weights, k, cost, rng), cost) for _ in range(_RESTARTS)]
    return min(runs, key=lambda run: run[0])[1]


def _lloyd(
    points: FloatArray,
    weights: FloatArray,
    centroids: FloatArray,
    cost: Callable[[FloatArray, FloatArray], FloatArray],
) -> tuple[float, FloatArray]:
    """Assign and average in turns until no assignment changes; returns the lowest total cost, with its centroids.

    The mean does not minimise 1 - IoU, so a turn can make things worse, and the last turn need not be the best.
    """
    best, best_centroids = np.inf, centroids
    assigned = np.full(len(points), -1)
    for _ in range(_MAX_ITERATIONS):
        distances = cost(points, centroids)
        nearest = distances.argmin(axis=1)
        total = float(weights @ distances[np.arange(len(points)), nearest])
        if total < best:
            best, best_centroids = total, centroids
        if np.array_equal(nearest, assigned):
            break
        assigned = nearest
        mass = np.bincount(nearest, weights=weights, minlength=len(centroids))
        sums = np.stack([np.bincount(nearest, weights * side, len(centroids)) for side in points.T], axis=1)
        # A centroid that no point is nearest to stays where it is.
        centroids = np.where(mass[:, None] > 0, sums / np.maximum(mass, np.finfo(float).tiny)[:, None], centroids)
    return best, best_centroids


def _plus_plus(
    points: FloatArray,
    weights: FloatArray,
    k: int,
    cost: Callable[[FloatArray, FloatArray], FloatArray],
    rng: np.random.Generator,
) -> FloatArray:
    """K different points, each drawn with a probability that grows with its cost to those drawn before."""
    chosen = [_draw(weights, rng)]
    distances = cost(points, points[chosen])[:, 0]
    while len(chosen) < k:
        distances[chosen] = 0.0  # rounding may leave a little, and a point must not be drawn twice
        mass = weights * distances
        if not mass.any():  # what is left differs by rounding alone from what was drawn
            mass = np.where(np.isin(np.arange(len(points)), chosen), 0.0, weights)
        chosen.append(_draw(mass, rng))
        distances = np.minimum(distances, cost(points, points[chosen[-1:]])[:, 0])
    return points[chosen]


def _draw(mass: FloatArray, rng: np.random.Generator) -> int:
    """An index, drawn with a probability in proportion to its mass; some mass is positive."""
    total = np.cumsum(mass)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))


def _evolve(points: FloatArray, weights: FloatArray, anchors: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Random changes of the anchors, each kept when it makes them fitter, with YOLOv5's rates."""
    log_points = np.log(points)
    best = _log_fitness(log_points, weights, np.log(anchors))
    for _ in range(_GENERATIONS):
        changed = rng.random(anchors.shape) < 0.9
        factors = np.clip(changed * rng.random() * rng.normal(0.0, 0.1, anchors.shape) + 1, 0.3, 3.0)
        fitness = _log_fitness(log_points, weights, np.log(anchors * factors))
        if fitness > best:
            best, anchors = fitness, anchors * factors
    return anchors


def _octaves(points: FloatArray, k: int) -> FloatArray:
    """K sizes from fewer: the points, then the points enlarged by equal fractions of an octave."""
    copies = -(-k // len(points))
    return np.concatenate([points * 2 ** (i / copies) for i in range(copies)])[:k]

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tuner.models.kmeans import _log_fitness, cluster, iou

DISTANCES = ("iou", "wh", "ratio")
sides = st.floats(1.0, 500.0, allow_nan=False)
box_sizes = st.integers(2, 40).flatmap(lambda n: arrays(np.float64, (n, 2), elements=sides))


def plain_iou(a, b):
    overlap = min(a[0], b[0]) * min(a[1], b[1])
    return overlap / (a[0] * a[1] + b[0] * b[1] - overlap)


def plain_squared(a, b):
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2


def total_cost(sizes, weights, centroids, cost):
    return sum(w * min(cost(s, c) for c in centroids) for s, w in zip(sizes, weights, strict=True))


def cheapest_by_trying_all(sizes, weights, k, cost):
    """The cost of the best division into at most k groups with weighted means as centroids."""
    best = np.inf
    for groups in itertools.product(range(k), repeat=len(sizes)):
        chosen = [np.array(groups) == g for g in set(groups)]
        centroids = [np.average(sizes[c], axis=0, weights=weights[c]) for c in chosen]
        best = min(best, total_cost(sizes, weights, centroids, cost))
    return best


@pytest.mark.parametrize(("distance", "cost"), [("iou", lambda a, b: 1 - plain_iou(a, b)), ("wh", plain_squared)])
@pytest.mark.parametrize("seed", range(4))
def test_few_boxes_are_divided_as_well_as_any_division_can(distance, cost, seed):
    rng = np.random.default_rng(seed)
    sizes, weights = rng.uniform(5, 100, (7, 2)), rng.uniform(0.5, 3, 7)
    found = cluster(sizes, 3, distance, weights)
    best = cheapest_by_trying_all(sizes, weights, 3, cost)
    # k-means finds a local optimum; with several starts and so few boxes it is the best or next to it.
    assert total_cost(sizes, weights, found, cost) <= best * 1.02


def test_iou_is_that_of_concentric_boxes():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 50, (6, 2)), rng.uniform(1, 50, (4, 2))
    np.testing.assert_allclose(iou(a, b), [[plain_iou(x, y) for y in b] for x in a])


def yolov5_fitness(sizes, weights, anchors):
    total = 0.0
    for (w, h), weight in zip(sizes, weights, strict=True):
        best = max(min(w / aw, aw / w, h / ah, ah / h) for aw, ah in anchors)
        total += weight * (best if best > 1 / 4 else 0.0)
    return total


def test_the_fitness_is_yolov5s():
    rng = np.random.default_rng(1)
    sizes, anchors, weights = rng.uniform(1, 90, (50, 2)), rng.uniform(1, 90, (3, 2)), rng.random(50)
    weights /= weights.sum()
    found = _log_fitness(np.log(sizes), weights, np.log(anchors))
    assert found == pytest.approx(yolov5_fitness(sizes, weights, anchors))


def test_evolution_makes_anchors_fitter():
    rng = np.random.default_rng(2)
    sizes = np.exp(rng.normal(3, 0.8, (300, 2)))
    weights = np.full(300, 1 / 300)
    evolved = yolov5_fitness(sizes, weights, cluster(sizes, 6, "ratio"))
    assert evolved > yolov5_fitness(sizes, weights, cluster(sizes, 6, "wh")) + 0.01


@settings(max_examples=40, deadline=None)
@given(sizes=box_sizes, k=st.integers(1, 9), distance=st.sampled_from(("iou", "wh")))
def test_any_boxes_give_k_sizes_by_area(sizes, k, distance):
    found = cluster(sizes, k, distance)
    assert found.shape == (k, 2)
    assert (np.diff(found.prod(axis=1)) >= 0).all()
    assert (found >= sizes.min(axis=0) * (1 - 1e-9)).all()
    assert (found <= sizes.max(axis=0) * 2 * (1 + 1e-9)).all()  # only copies of too few sizes grow, below an octave


@settings(max_examples=40, deadline=None)
@given(
    sizes=box_sizes, k=st.integers(1, 5), distance=st.sampled_from(("iou", "wh")), factor=st.sampled_from((0.25, 2, 64))
)
def test_larger_boxes_give_larger_anchors_in_proportion(sizes, k, distance, factor):
    np.testing.assert_allclose(cluster(sizes * factor, k, distance), cluster(sizes, k, distance) * factor)


@settings(max_examples=40, deadline=None)
@given(sizes=box_sizes, k=st.integers(1, 5), distance=st.sampled_from(("iou", "wh")), data=st.data())
def test_a_whole_weight_is_so_many_boxes(sizes, k, distance, data):
    counts = data.draw(arrays(np.int64, len(sizes), elements=st.integers(1, 4)))
    weighted = cluster(sizes, k, distance, counts.astype(float))
    np.testing.assert_allclose(weighted, cluster(np.repeat(sizes, counts, axis=0), k, distance))


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_order_of_boxes_and_a_second_call_change_nothing(distance):
    sizes = np.random.default_rng(3).uniform(5, 90, (60, 2))
    found = cluster(sizes, 4, distance)
    np.testing.assert_array_equal(found, cluster(sizes, 4, distance))
    np.testing.assert_array_equal(found, cluster(sizes[::-1], 4, distance))


@pytest.mark.parametrize("distance", DISTANCES)
def test_identical_boxes_give_their_size_and_copies_below_an_octave(distance):
    found = cluster(np.full((20, 2), (30.0, 10.0)), 3, distance)
    np.testing.assert_allclose(found, [[30 * 2 ** (i / 3), 10 * 2 ** (i / 3)] for i in range(3)])


@pytest.mark.parametrize("distance", DISTANCES)
def test_as_many_sizes_as_anchors_are_the_anchors(distance):
    sizes = np.array([[4.0, 4.0], [20.0, 10.0], [90.0, 80.0]])
    np.testing.assert_array_equal(cluster(np.repeat(sizes, 5, axis=0), 3, distance), sizes)


@pytest.mark.parametrize("distance", DISTANCES)
def test_boxes_below_a_pixel_give_finite_anchors(distance):
    sizes = np.random.default_rng(4).uniform(1e-3, 0.5, (50, 2))
    found = cluster(np.concatenate([sizes, [[300.0, 200.0]]]), 4, distance)
    assert np.isfinite(found).all()
    assert (found > 0).all()


@settings(max_examples=60, deadline=None)
@given(
    side=st.sampled_from((40.0, 40 / 3)),
    noise=st.integers(2, 40).flatmap(lambda n: arrays(np.int64, (n, 2), elements=st.integers(-4, 4))),
    k=st.integers(1, 20),
    distance=st.sampled_from(("iou", "wh")),
)
# Where `distinct` rounds one up and its neighbour down, it tells apart what is the same.
@example(side=40 + 2**-11, noise=np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), k=3, distance="iou")
def test_sizes_that_rounding_made_different_are_no_error(side, noise, k, distance):
    found = cluster(side + noise * np.spacing(side), k, distance)
    assert found.shape == (k, 2)
    assert (found > side * (1 - 1e-9)).all()
    assert (found < side * 2).all()


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=1, max_size=5, unique=True),
    factor=st.sampled_from((1.0, 0.1, 1 / 3)),
    spare=st.integers(0, 4),
    distance=st.sampled_from(DISTANCES),
)
def test_noise_makes_no_more_sizes(sizes, factor, spare, distance):
    exact = np.array(sizes) * factor
    noisy = np.concatenate([exact, exact * (1 - 2**-52), exact * (1 + 2**-50)])
    k = len(sizes) + spare
    np.testing.assert_allclose(cluster(noisy, k, distance), cluster(exact, k, distance), rtol=1e-12)

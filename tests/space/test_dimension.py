"""What one dimension of a search space can take."""

import math

import pytest

from tuner.space.dimension import FloatDimension, IntDimension


@pytest.mark.parametrize("extra", [{}, {"step": 2}, {"log": True}])
@pytest.mark.parametrize("kind", [FloatDimension, IntDimension])
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, -(10**400), 0, 11, 12], ids=lambda value: str(value)[:4]
)
def test_a_range_does_not_contain_what_lies_outside(
    kind: type[FloatDimension | IntDimension], extra: dict[str, int | bool], value: float
) -> None:
    dimension = kind.model_validate({"low": 2, "high": 10} | extra)
    assert dimension.contains(2)
    assert dimension.contains(10)
    assert not dimension.contains(value)


def test_a_value_on_the_grid_may_be_off_by_rounding() -> None:
    dimension = FloatDimension(low=0.1, high=0.7, step=0.1)
    assert all(dimension.contains(0.1 * number) for number in range(1, 8))  # 0.7000000000000001
    assert not dimension.contains(0.15)
    assert not dimension.contains(0.8)

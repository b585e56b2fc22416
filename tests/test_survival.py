"""Recovery over time, with its band over seeds."""

import numpy as np
import pytest

from rlplastic import aggregate
from rlplastic.metrics.panels import survival
from rlplastic.metrics.recovery import Times


def times(*values):
    """Times to recover; 1.0 is censored at the end of the phase."""
    time = np.array(values, dtype=float)
    return Times(time=time, recovered=time < 1)


def test_the_curve_is_the_share_of_shifts_recovered_by_then():
    x, share, low, high = survival([[times(0.2, 0.5)], [times(0.5, 1.0)]])
    assert dict(zip(x.tolist(), share.tolist(), strict=True)) == pytest.approx(
        {0.0: 0.0, 0.2: 0.25, 0.5: 0.75, 1.0: 0.75}
    )
    assert (low <= share).all()
    assert (share <= high).all()
    # Seeds are drawn whole: by 0.5 both shifts of one seed have recovered, one of the other.
    assert (low[x == 0.5][0], high[x == 0.5][0]) == (0.5, 1.0)


def test_the_band_is_that_of_seeds_and_not_of_their_shifts():
    alike = [[times(*[0.3] * 10)], [times(*[1.0] * 10)]]
    x, share, low, high = survival(alike)
    at = x == 0.3
    assert (low[at][0], share[at][0], high[at][0]) == (0.0, 0.5, 1.0)


def test_shifts_on_which_no_time_is_defined_are_not_chances():
    x, share, _, _ = survival([[times(0.2, float("nan"))], [times(1.0, float("nan"))]])
    assert share[x == 0.2][0] == 0.5
    assert survival([[times(float("nan"))]]) is None
    assert survival([]) is None


def test_a_single_seed_has_a_curve_and_a_band_without_width():
    _, share, low, high = survival([[times(0.2, 1.0)]])
    np.testing.assert_array_equal(low, share)
    np.testing.assert_array_equal(high, share)


def test_shares_of_seeds_with_unequal_chances_are_ratios_of_sums():
    hits, of = np.array([[[1.0]], [[3.0]]]), np.array([[1.0], [9.0]])
    low, high = aggregate.share_band(hits, of, np.random.default_rng(0))
    assert (low[0], high[0]) == pytest.approx((3 / 9, 1.0))

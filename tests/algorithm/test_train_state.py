import math

import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.algorithm.train_state import UpdateStats


@pytest.mark.parametrize("variance", [0.5, -3.0, 1.0, np.nan])
def test_figures_pass_a_program_without_nan_and_are_whole_on_the_host(variance):
    given = UpdateStats.blank()._replace(explained_variance=jnp.float32(variance), eprewmean=math.nan)
    inside = given.in_program()
    assert np.isfinite(inside.explained_variance)
    assert inside.eprewmean is inside.eplenmean is inside.episodes is None
    found = inside.on_host()
    np.testing.assert_equal(float(found.explained_variance), variance)
    assert math.isnan(found.eprewmean)
    assert math.isnan(found.eplenmean)
    assert found.episodes == 0

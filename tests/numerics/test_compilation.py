import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics.compilation import (
    can_compile_aside,
    compiled,
    compiling_aside,
    devices_in_use,
    platform,
    transfers_allowed,
)
from support.compiling import compilations


def with_first_doubled(x):
    return x.at[0].set(2 * x[0])


def test_functions_see_arrays_of_jax_whether_compiled_or_not():
    run = compiled(with_first_doubled)
    np.testing.assert_array_equal(run(np.float32([1, 2])), [2, 2])
    with jax.disable_jit():
        np.testing.assert_array_equal(run(np.float32([1, 2])), [2, 2])
    assert run.__name__ == "with_first_doubled"


def test_the_devices_in_use_are_those_that_the_user_has_set():
    everywhere = jax.devices()
    assert devices_in_use() == everywhere
    with jax.default_device(everywhere[-1]):
        assert devices_in_use() == [everywhere[-1]]
        assert platform() == everywhere[-1].platform
    with jax.default_device("cpu"):
        assert devices_in_use() == jax.devices("cpu")
        assert platform() == "cpu"


def test_transfers_are_allowed_inside_alone():
    def total(x):
        """The sum."""
        return float(jnp.asarray(x).sum())

    with jax.transfer_guard("disallow"):
        assert transfers_allowed(total)(np.float32([1, 2])) == 3
        with pytest.raises(Exception, match="Disallowed host-to-device"):
            total(np.float32([1, 2]))
    assert transfers_allowed(total).__doc__ == "The sum."


def test_calls_find_programs_that_were_compiled_aside():
    run, x = compiled(lambda x: 3 * x), np.float32([1, 2])
    with compilations() as programs:
        with compiling_aside() as aside:
            shape = aside(run, x)
        aside.so_far()()
        assert len(programs) == 1
        np.testing.assert_array_equal(run(x), [3, 6])
        assert len(programs) == 1
    assert (shape.shape, shape.dtype) == ((2,), np.float32)


def test_nothing_is_compiled_aside_where_calls_would_not_find_it():
    assert can_compile_aside()
    with jax.disable_jit():
        assert not can_compile_aside()

"""Spaces as text, and back."""

import json
import re

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, Tuple

from ppo2 import spaces
from ppo2.spaces import Spec
from support.spaces import COMPOSITE, IMAGE, SPACES, UNKNOWN


@pytest.mark.parametrize("space", SPACES + COMPOSITE, ids=str)
def test_description_round_trip(space):
    found = spaces.from_description(json.loads(json.dumps(spaces.describe(space), allow_nan=False)))
    assert type(found) is type(space)
    assert found == space
    assert (found.shape, found.dtype) == (space.shape, space.dtype)
    if isinstance(space, Box):  # whose == is only approximate
        np.testing.assert_array_equal(found.low, space.low)
        np.testing.assert_array_equal(found.high, space.high)
        np.testing.assert_array_equal(found.bounded_above, space.bounded_above)
    assert Spec(found) == Spec(space)


def test_no_two_of_them_are_described_alike():
    assert len({Spec(space) for space in SPACES + COMPOSITE}) == len(SPACES + COMPOSITE)
    assert Spec(Discrete(2)) != "Discrete(2)"
    assert repr(Spec(Discrete(2))) == "Spec(Discrete(2))"


def test_the_description_of_an_image_is_short():
    assert len(json.dumps(spaces.describe(IMAGE))) < 120


@pytest.mark.parametrize(("space", "part"), UNKNOWN, ids=str)
def test_unknown_spaces_are_refused(space, part):
    with pytest.raises(TypeError) as error:
        spaces.describe(space)
    assert str(error.value) == (
        f"the space {part} isn't supported; known are Box, Discrete, MultiDiscrete and MultiBinary, and Tuple and Dict "
        "of these."
    )


def test_an_unknown_description_is_refused():
    with pytest.raises(ValueError, match=re.escape("the space 'Graph' isn't known.")):
        spaces.from_description({"kind": "Graph"})


def test_a_space_of_too_many_parts_is_refused_before_it_is_trained_on() -> None:
    """No file could hold it: see `from_description`."""
    parts = [Discrete(2)] * 999
    Spec(Tuple(parts))
    with pytest.raises(TypeError, match="more than 1,000 parts isn't supported: put the parts of a kind into one"):
        Spec(Tuple([Tuple(parts)]))

"""The comparison of exported policies with their models: what may differ, and by how much."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from ppo2.deployment.comparison import DifferentError, allowed_difference, compare
from ppo2.deployment.examples import Example
from support.policies import IMAGE, untrained


def example(actions, logits, values=(0.5, 200.0)):
    expected = {"action": np.array(actions), "logits": np.array(logits, np.float32), "value": np.float32(values)}
    return Example({}, expected)


def compared(model, right, **changed):
    changes = {name: np.asarray(x, right.expected[name].dtype) for name, x in changed.items()}
    return compare(lambda _: right.expected | changes, model, [right], "observations")


def test_numbers_may_differ_by_a_hundred_thousandth_of_the_largest():
    model, right = untrained(), example([0, 1], [[0, -1], [-1, 0]])
    found = compared(model, right, value=[0.501, 200.0015])
    assert (found.observations, found.ties) == (2, 0)
    assert found.difference == pytest.approx(0.0015 / 200, rel=1e-2)
    with pytest.raises(DifferentError, match=r"on observations the output 'value' differs by up to 1.5e-05; 1e-05 is"):
        compared(model, right, value=[0.5, 200.003])


def test_a_choice_may_be_another_only_where_logits_are_as_good():
    tied = example([0, 1], [[0, -1e-6], [-1, 0]])
    assert compared(untrained(), tied, action=[1, 1]).ties == 1
    with pytest.raises(DifferentError, match="'action' is 0 where the model's is 1"):
        compared(untrained(), tied, action=[0, 0])
    several = untrained(action_space=MultiDiscrete([2, 2], start=[0, 5]))
    tied = example([[0, 5], [1, 6]], [[0, -1e-6, 1, 0], [-1, 0, -1, 0]])
    assert compared(several, tied, action=[[1, 5], [1, 6]]).ties == 1
    with pytest.raises(DifferentError):
        compared(several, tied, action=[[0, 6], [1, 6]])
    bits = untrained(action_space=MultiBinary(2))
    tied = example([[0, 1], [1, 1]], [[-1e-6, 3], [2, 2]])
    assert compared(bits, tied, action=[[1, 1], [1, 1]]).ties == 1
    with pytest.raises(DifferentError):
        compared(bits, tied, action=[[0, 0], [1, 1]])


def test_shapes_and_dtypes_are_those_of_the_environment():
    model, right = untrained(), example([0, 1], [[0, -1], [-1, 0]])
    with pytest.raises(DifferentError, match=r"'action' is int32 \(2,\); the model's is int64 \(2,\)"):
        compare(lambda _: right.expected | {"action": np.int32([0, 1])}, model, [right], "observations")
    with pytest.raises(DifferentError, match="differs by up to nan"):
        compared(model, right, value=[np.nan, 200.0])


def test_how_much_is_allowed():
    assert allowed_difference(untrained()) == 1e-5
    assert allowed_difference(untrained(Box(-1, 1, (3, 2)), Discrete(2))) == 1e-5
    assert allowed_difference(untrained(IMAGE, network="cnn_small")) == 1e-4
    assert allowed_difference(untrained(precision="bf16")) == 3e-2


def test_logits_that_a_mask_rules_out_are_no_measure():
    right = example([0, 1], [[0, -0.5, -1e9], [-0.5, 0, -1e9]])
    assert compared(untrained(), right).difference == 0
    with pytest.raises(DifferentError, match=r"'logits' differs by up to 1\.0e-02; 1e-05 is allowed"):
        compared(untrained(), right, logits=[[0, -0.51, -1e9], [-0.5, 0, -1e9]])
    with pytest.raises(DifferentError, match="'action' is 1 where the model's is 0"):
        compared(untrained(action_space=Discrete(3)), right, action=[1, 1])

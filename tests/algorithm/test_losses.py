import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.losses import Stats, normalise_advantages, policy_loss, ppo_loss, value_loss
from ppo2.algorithm.rollout import Batch, EvaluatedActions

pytestmark = pytest.mark.core

# Five samples, cliprange 0.2: the clipped ratio is held to 0.8..1.2.
#   A   ratio   -A ratio   -A clipped   max
#   1   1.5     -1.5       -1.2         -1.2   clip active, good action
#  -2   0.5      1.0        1.6          1.6   clip active, bad action
#  -1   1.5      1.5        1.2          1.5   inactive: going the wrong way always costs
#   1   0.5     -0.5       -0.8         -0.5   inactive, the same
#   1   1.1     -1.1       -1.1         -1.1   inside
ADVANTAGES = np.array([1.0, -2, -1, 1, 1])
RATIOS = np.array([1.5, 0.5, 1.5, 0.5, 1.1])
POLICY_LOSS = (-1.2 + 1.6 + 1.5 - 0.5 - 1.1) / 5  # 0.06

# value_cliprange 0.3: v is held to v_old -0.3..+0.3.
#   v     v_old   R   (v - R)^2   clipped v   (clipped - R)^2   max
#   1     0       2   1           0.3         2.89              2.89   clip active
#  -1     0       0   1          -0.3         0.09              1
#   0.1   0       1   0.81        0.1         0.81              0.81   inside
#   0     1       1   1           0.7         0.09              1
#   0     1       0   0           0.7         0.49              0.49   clip active
VALUES = np.array([1, -1, 0.1, 0, 0])
OLD_VALUES = np.array([0.0, 0, 0, 1, 1])
RETURNS = np.array([2.0, 0, 1, 1, 0])
VALUE_LOSS = 0.5 * (2.89 + 1 + 0.81 + 1 + 0.49) / 5  # 0.619
UNCLIPPED_VALUE_LOSS = 0.5 * (1 + 1 + 0.81 + 1 + 0) / 5  # 0.381

ENTROPY = np.array([1.0, 2, 3, 4, 5])  # mean 3
OLD_LOGP = np.array([-1.0, -2, -3, -0.5, 0])


def samples():
    return {
        "logp": OLD_LOGP + np.log(RATIOS),
        "entropy": ENTROPY,
        "values": VALUES,
        "old_logp": OLD_LOGP,
        "old_values": OLD_VALUES,
        "advantages": ADVANTAGES,
        "returns": RETURNS,
        "weights": np.ones(5),
    }


@jax.jit
def loss(rows, value_cliprange=0.3):
    rows = {name: jnp.asarray(row, jnp.float32) for name, row in rows.items()}
    numbers = {"cliprange": 0.2, "value_cliprange": value_cliprange, "ent_coef": 0.01, "vf_coef": 0.5}
    with jax.numpy_rank_promotion("raise"):
        new = EvaluatedActions(*(rows[name] for name in ("logp", "entropy", "values")))
        old = {name: rows[f"old_{name}"] for name in ("logp", "values")}
        same = {name: rows[name] for name in ("advantages", "returns", "weights")}
        return ppo_loss(new, Batch(obs=None, actions=None, **old, **same), Hyperparameters(**numbers))


@jax.jit
def gradients(rows):
    return jax.grad(lambda rows: loss(rows)[0])(rows)


def with_garbage(garbage):
    """The five samples with others among them that weigh nothing."""
    rows = {name: np.insert(row, [0, 3, 5], garbage) for name, row in samples().items()}
    return {**rows, "weights": np.insert(np.ones(5), [0, 3, 5], 0.0)}


def test_by_hand():
    total, stats = loss(samples())
    assert stats.policy_loss == pytest.approx(POLICY_LOSS, rel=1e-5)
    assert stats.value_loss == pytest.approx(VALUE_LOSS, rel=1e-5)
    assert stats.policy_entropy == pytest.approx(3)
    assert total == pytest.approx(POLICY_LOSS - 0.01 * 3 + 0.5 * VALUE_LOSS, rel=1e-5)
    # all ratios but 1.1 are more than 0.2 away from 1
    assert stats.clipfrac == pytest.approx(4 / 5)
    assert stats.approxkl == pytest.approx(0.5 * np.mean(np.log(RATIOS) ** 2), rel=1e-5)


def test_without_value_clip():
    total, stats = loss(samples(), value_cliprange=None)
    assert stats.value_loss == pytest.approx(UNCLIPPED_VALUE_LOSS, rel=1e-5)
    assert total == pytest.approx(POLICY_LOSS - 0.03 + 0.5 * UNCLIPPED_VALUE_LOSS, rel=1e-5)


def test_predictions_of_lower_precision_are_compared_with_what_they_were():
    """Bfloat16, as a subclass may make it, beside float32 and clip ranges of float32."""
    low = {name: jnp.asarray(samples()[name], jnp.bfloat16) for name in ("logp", "entropy", "values")}
    numbers = {"cliprange": np.float32(0.2), "value_cliprange": np.float32(0.3), "ent_coef": 0.01, "vf_coef": 0.5}

    def found(new):
        rows = {name: jnp.asarray(row, jnp.float32) for name, row in samples().items()}
        batch = Batch(obs=None, actions=None, logp=rows["old_logp"], values=rows["old_values"],
                      **{name: rows[name] for name in ("advantages", "returns", "weights")})  # fmt: skip
        return jax.value_and_grad(lambda new: ppo_loss(new, batch, Hyperparameters(**numbers)), has_aux=True)(new)

    (total, _), gradient = found(EvaluatedActions(**low))
    (expected, _), exact = found(EvaluatedActions(**{name: x.astype(jnp.float32) for name, x in low.items()}))
    assert total == pytest.approx(float(expected), rel=1e-3)
    for one, other in zip(gradient, exact, strict=True):
        np.testing.assert_allclose(one.astype(jnp.float32), other, rtol=1e-2)


def test_one_value_for_several_samples():
    numbers = {"weights": jnp.ones(2), "value_cliprange": 0.3}
    found = value_loss(jnp.float32(1), jnp.float32([1, 0]), jnp.float32([0, 2]), **numbers)
    assert found == pytest.approx(0.5 * (1 + 1.7**2) / 2)


def test_gradients_at_the_edges_of_the_clip():
    """A clip range of 0 clips all that moved; on the edge, and where nothing moved, the gradient is whole."""

    def policy(logp, cliprange):
        return policy_loss(logp, jnp.zeros(3), jnp.ones(3), jnp.ones(3), cliprange=cliprange)

    def value(values, cliprange):
        return value_loss(values, jnp.zeros(3), jnp.full(3, -8.0), jnp.ones(3), value_cliprange=cliprange)

    # -A ratio / 3; ratios of 1, 1.25 and 0.5, of which the last is worth going back
    ratios = np.float32([1, 1.25, 0.5])
    for cliprange, kept in ((0.25, [1, 1, 1]), (0.0, [1, 0, 1])):
        np.testing.assert_allclose(jax.grad(policy)(jnp.log(ratios), cliprange), -ratios * kept / 3, rtol=1e-5)
    # (v - R) / 3; towards R only what isn't clipped
    values = np.float32([0, 0.25, -0.5])
    for cliprange, kept in ((0.25, [1, 1, 0]), (0.0, [1, 1, 0])):
        np.testing.assert_allclose(jax.grad(value)(values, cliprange), (values + 8) * kept / 3, rtol=1e-5)


def test_gradient_is_0_where_the_clip_is_active():
    # d(-A ratio) / dlogp = -A ratio, over 5 samples
    np.testing.assert_allclose(gradients(samples())["logp"], np.array([0, 0, 1.5, -0.5, -1.1]) / 5, rtol=1e-5)
    # vf_coef * 1/2 * 2 (v - R) / 5; inside both branches are one, and the gradient is still all of it
    np.testing.assert_allclose(gradients(samples())["values"], 0.5 * np.array([0, -1, -0.9, -1, 0]) / 5, rtol=1e-5)


def test_entropy_is_a_bonus():
    np.testing.assert_allclose(gradients(samples())["entropy"], np.full(5, -0.01 / 5), rtol=1e-5)


def test_ratio_1_is_the_plain_policy_gradient():
    total, stats = loss({**samples(), "logp": OLD_LOGP})
    assert stats.policy_loss == pytest.approx(-ADVANTAGES.mean(), abs=1e-6)
    assert stats.approxkl == stats.clipfrac == 0
    assert np.isfinite(total)


def test_samples_of_weight_0_change_nothing():
    expected, found = loss(samples()), loss(with_garbage(7.0))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


def test_samples_of_weight_0_change_nothing_even_if_not_finite():
    found, _ = loss(with_garbage(np.nan))
    assert found == pytest.approx(float(loss(samples())[0]), rel=1e-5)


def test_a_minibatch_without_a_valid_sample_gives_0():
    rows = {**samples(), "weights": np.zeros(5)}
    total, stats = loss(rows)
    assert total == 0
    assert stats == Stats(0, 0, 0, 0, 0)
    found = gradients(rows)
    np.testing.assert_array_equal([found["logp"], found["values"], found["entropy"]], np.zeros((3, 5)))


def test_loss_names_are_baselines():
    assert Stats._fields == ("policy_loss", "value_loss", "policy_entropy", "approxkl", "clipfrac")


def test_normalised_advantages_by_hand():
    # of 1, 2, 3 the mean is 2 and the variance 2/3; 100 weighs nothing
    found = normalise_advantages(jnp.array([1.0, 2, 100, 3]), jnp.array([1.0, 1, 0, 1]))
    np.testing.assert_allclose(found[jnp.array([0, 1, 3])], np.array([-1, 0, 1]) / np.sqrt(2 / 3), rtol=1e-5)


def test_equal_advantages_and_none_are_normalised_to_finite_numbers():
    np.testing.assert_array_equal(normalise_advantages(jnp.full(4, 3.0), jnp.ones(4)), np.zeros(4))
    assert np.all(np.isfinite(normalise_advantages(jnp.arange(4.0), jnp.zeros(4))))

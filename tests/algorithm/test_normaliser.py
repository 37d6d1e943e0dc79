import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from ppo2.algorithm.normaliser import BoxStatistics, Normaliser, discounted_returns, relative, relative_writer
from ppo2.algorithm.rollout import Rollout
from ppo2.numerics.statistics import Moments

returns_of = jax.jit(discounted_returns)
BOX = spaces.Box(-np.inf, np.inf, (2,))


def moments(mean, var, count):
    return Moments(jnp.array(mean, jnp.float32), jnp.array(var, jnp.float32), jnp.float32(count))


def statistics(mean, var, count):
    """Statistics of a Box, relative to the origin 0."""
    return BoxStatistics(origin=jnp.zeros(np.shape(mean)), relative=moments(mean, var, count))


def rollout(rewards, *, obs=None, terminated=(), truncated=(), invalid=(), running=None, gamma=0.5):
    """Steps of which those listed as (t, n) ended or were no experience."""
    rewards = np.array(rewards, np.float32)
    flags = []
    for where in (terminated, truncated, invalid):
        flag = np.zeros(rewards.shape, bool)
        for t, n in where:
            flag[t, n] = True
        flags.append(jnp.array(flag))
    zeros = jnp.zeros(rewards.shape)
    return Rollout(
        obs=jnp.zeros((*rewards.shape, 2)) if obs is None else jnp.array(obs),
        actions=zeros,
        logp=zeros,
        values=zeros,
        rewards=jnp.array(rewards),
        next_values=zeros,
        terminated=flags[0],
        truncated=flags[1],
        valid=~flags[2],
        running_returns=jnp.zeros(rewards.shape[1]) if running is None else jnp.array(running),
        gamma=jnp.float32(gamma),
        lam=jnp.float32(0.95),
    )


def test_start_by_space_and_choice():
    both = {"normalize_obs": True, "normalize_rewards": True}
    start = Normaliser.start(BOX, **both)
    assert start.obs.mean.shape == (2,)
    assert start.returns.mean.shape == ()
    assert start.is_empty
    nothing = Normaliser.start(BOX, normalize_obs=False, normalize_rewards=False)
    assert (nothing.obs, nothing.returns, nothing.is_empty) == (None, None, False)
    assert Normaliser.start(BOX, normalize_obs=False, normalize_rewards=True).obs is None
    assert Normaliser.start(BOX, normalize_obs=True, normalize_rewards=False).returns is None


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2), spaces.Box(0, 255, (9, 9, 3), np.uint8)],
)
def test_choices_and_images_have_no_statistics(space):
    start = Normaliser.start(space, normalize_obs=True, normalize_rewards=False)
    assert start.obs is None
    obs = np.ones((4, *space.shape), space.dtype)
    assert start.observe(obs) is obs


def test_observations_by_hand():
    normaliser = Normaliser(obs=statistics([1, 0], [4, 100], 8), returns=None)
    # (5 - 1) / 2 = 2, -30 / 10 = -3; (101 - 1) / 2 = 50 and -1000 / 10 = -100 are clipped
    found = normaliser.observe(jnp.array([[5.0, -30], [101, -1000]]))
    np.testing.assert_allclose(found, [[2, -3], [10, -10]], rtol=1e-5)


def test_an_observation_that_never_changes_is_finite():
    normaliser = Normaliser(obs=statistics([1, 1], [0, 0], 8), returns=None)
    # over sqrt(0 + 1e-8) = 1e-4
    np.testing.assert_allclose(normaliser.observe(jnp.array([[1, 1.0002]])), [[0, 2]], rtol=1e-2)


def test_rewards_by_hand():
    normaliser = Normaliser(obs=None, returns=moments(7, 4, 8))
    # r / 2, whatever the mean; 100 / 2 and -100 / 2 are clipped
    found = normaliser.scale_rewards(jnp.array([[1.0, -3], [100, -100]]))
    np.testing.assert_allclose(found, [[0.5, -1.5], [10, -10]], rtol=1e-5)
    same = jnp.array([[100.0]])
    assert Normaliser(obs=None, returns=None).scale_rewards(same) is same


def test_discounted_returns_begin_anew_after_an_episode():
    found = returns_of(
        rollout([[1, 1], [2, 2], [3, 3], [4, 4]], running=[4.0, 8], terminated=[(1, 0)], truncated=[(2, 1)])
    )
    # 0.5 * 4 + 1 = 3, 0.5 * 3 + 2 = 3.5, then 3, 0.5 * 3 + 4 = 5.5
    # 0.5 * 8 + 1 = 5, 0.5 * 5 + 2 = 4.5, 0.5 * 4.5 + 3 = 5.25, then 4
    np.testing.assert_allclose(found, [[3, 5], [3.5, 4.5], [3, 5.25], [5.5, 4]])


@pytest.mark.parametrize("steps", [1, 8, 21])
def test_discounted_returns_equal_a_plain_loop(steps):
    rng = np.random.default_rng(0)
    rewards, ended = rng.normal(size=(steps, 3)), rng.random((steps, 3)) < 0.2
    running, expected = rng.normal(size=3), []
    played = rollout(rewards, running=np.float32(running), terminated=np.argwhere(ended), gamma=0.9)
    for reward, end in zip(rewards, ended, strict=True):
        running = 0.9 * running + reward
        expected.append(running)
        running = np.where(end, 0, running)
    np.testing.assert_allclose(returns_of(played), expected, rtol=1e-4, atol=1e-5)


def both_kinds():
    return Normaliser(obs=statistics([0, 0], [1, 1], 0), returns=moments(0, 1, 0))


def test_with_observations_counts_valid_steps_only():
    before = both_kinds()
    obs = np.array([[[1.0, 10], [3, 30]], [[999, -999], [5, 50]]])
    after = before.with_observations(rollout([[9, 9], [9, 9]], obs=obs, invalid=[(1, 0)]))
    # of 1, 3, 5 the mean is 3 and the variance 8/3
    np.testing.assert_allclose(after.obs.mean, [3, 30], rtol=1e-6)
    np.testing.assert_allclose(after.obs.var, [8 / 3, 800 / 3], rtol=1e-6)
    assert float(after.obs.count) == 3
    assert after.returns is before.returns
    assert not Normaliser(obs=after.obs, returns=None).is_empty


def test_with_returns_counts_valid_steps_only():
    before = both_kinds()
    # gamma 0.5: 2, 0.5 * 2 + 4 = 5 | 8 | the last of both, whose returns would be 2.5 and 4, were no experience
    played = rollout([[2, 8], [4, 0], [0, 0]], terminated=[(0, 1)], invalid=[(1, 1), (2, 0), (2, 1)])
    after = before.with_returns(played)
    # of 2, 5, 8 the mean is 5 and the variance 6
    np.testing.assert_allclose((after.returns.mean, after.returns.var), (5, 6), rtol=1e-3)
    assert float(after.returns.count) == 3
    assert after.obs is before.obs


def test_nothing_asked_for_nothing_counted():
    nothing = Normaliser(obs=None, returns=None)
    played = rollout([[1, 2]])
    assert nothing.with_returns(played) is nothing
    assert nothing.with_observations(played) is nothing


def test_statistics_go_on_over_rollouts():
    data = np.random.default_rng(0).normal(3, 2, (6, 5, 4, 2))
    normaliser = Normaliser.start(BOX, normalize_obs=True, normalize_rewards=False)
    update = jax.jit(lambda n, r: n.with_observations(r))
    for obs in data:
        normaliser = update(normaliser, rollout(np.zeros((5, 4)), obs=obs))
    whole = data.reshape(-1, 2)
    np.testing.assert_allclose(normaliser.obs.mean, whole.mean(0), rtol=1e-4)
    np.testing.assert_allclose(normaliser.obs.var, whole.var(0), rtol=1e-3)
    scaled = normaliser.observe(jnp.array(whole))
    np.testing.assert_allclose(np.mean(scaled, axis=0), [0, 0], atol=1e-3)
    np.testing.assert_allclose(np.std(scaled, axis=0), [1, 1], atol=1e-3)


def test_an_invalid_observation_counts_nothing_even_if_not_finite():
    obs = np.array([[[1.0, 1]], [[np.nan, np.nan]]])
    after = both_kinds().with_observations(rollout([[0], [0]], obs=obs, invalid=[(1, 0)]))
    assert np.all(np.isfinite(after.obs.mean))


def test_the_original_has_the_same_scale():
    # gymnasium's NormalizeReward keeps the same statistics, in float64 and step by step
    rewards = np.random.default_rng(0).normal(1, 3, (200, 1))
    after = Normaliser.start(BOX, normalize_obs=False, normalize_rewards=True).with_returns(rollout(rewards, gamma=0.9))
    running, seen = 0.0, gym.wrappers.utils.RunningMeanStd(shape=())
    for reward in rewards[:, 0]:
        running = 0.9 * running + reward
        seen.update(np.array([running]))
    np.testing.assert_allclose(after.returns.var, seen.var, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8, np.int16, np.int64])
def test_statistics_of_any_dtype(dtype):
    space = spaces.Box(0, 100, (2,), dtype)
    obs = np.random.default_rng(0).integers(0, 100, (5, 4, 2)).astype(dtype)
    start = Normaliser.start(space, normalize_obs=True, normalize_rewards=False)
    after = start.with_observations(rollout(np.zeros((5, 4)), obs=obs))
    whole = obs.reshape(-1, 2).astype(float)
    np.testing.assert_allclose(after.obs.mean, whole.mean(0), rtol=1e-6)
    np.testing.assert_allclose(after.obs.var, whole.var(0), rtol=1e-6)
    found = after.observe(jnp.asarray(relative(after.origins(), obs)))
    np.testing.assert_allclose(found, (obs - whole.mean(0)) / whole.std(0), rtol=1e-4, atol=1e-5)


def fed(space, batches):
    """The normaliser after batches (T, N, 1), each as the host gives it."""
    normaliser = Normaliser.start(space, normalize_obs=True, normalize_rewards=False)
    count = jax.jit(lambda n, r: n.with_observations(r))
    for obs in batches:
        seen = relative(normaliser.origins(), obs)
        normaliser = count(normaliser, rollout(np.zeros(obs.shape[:2]), obs=seen.astype(seen.dtype)))
    return normaliser


@pytest.mark.parametrize(("offset", "error"), [(5.4e6, 1e-4), (-1.7e9, 1e-4), (1.7e12, 1e-2)])
def test_float64_far_from_0_is_measured_on_the_host(offset, error):
    """float32 has steps of 0.5, 128 and 131,072 there. The first batch only finds where they are."""
    batches = offset + np.random.default_rng(0).uniform(-1, 1, (4, 50, 8, 1))  # of variance 1/3
    normaliser = fed(spaces.Box(-np.inf, np.inf, (1,), np.float64), batches)
    whole = batches[1:].ravel()
    assert float(normaliser.obs.count) == whole.size
    np.testing.assert_allclose(normaliser.obs.mean, whole.mean(), rtol=1e-6)
    np.testing.assert_allclose(normaliser.obs.var, whole.var(), rtol=error)
    found = normaliser.observe(jnp.asarray(relative(normaliser.origins(), batches[3])))
    np.testing.assert_allclose(found, (batches[3] - whole.mean()) / whole.std(), atol=20 * error)


def test_what_is_written_relative_to_an_origin_has_the_same_bits_and_never_raises():
    origin, found = np.array([1.7e9, 0.1, -1.0]), np.zeros((2, 3), np.float32)
    obs = np.array([[1.7e9 + 0.3, 0.3, 1e300], [1.7e9, np.nan, 1e-300]])
    write = relative_writer(origin)
    with np.errstate(all="raise"):
        write(found, obs)
        assert found.tobytes() == relative(origin, obs).tobytes()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_whole_numbers_far_from_0_are_exact(dtype):
    offset = 1_700_000_000 if dtype != np.float32 else 5_400_000
    batches = offset + np.random.default_rng(0).integers(-2, 3, (3, 50, 8, 1))
    normaliser = fed(
        spaces.Box(0, 2**31 - 1, (1,), dtype) if dtype != np.float32 else spaces.Box(-9e9, 9e9, (1,)),
        batches.astype(dtype),
    )
    assert float(normaliser.obs.count) == batches.size  # from the first batch on
    np.testing.assert_allclose(normaliser.obs.var, batches.var(), rtol=1e-4)
    found = normaliser.observe(jnp.asarray(batches[0].astype(dtype)))
    np.testing.assert_allclose(found, (batches[0] - batches.mean()) / batches.std(), atol=1e-3)


def test_integers_of_any_size_are_finite():
    obs = np.array([[[-(2**31)]], [[2**31 - 1]], [[0]]], np.int32)
    normaliser = fed(spaces.Box(-(2**31), 2**31 - 1, (1,), np.int32), [obs])
    np.testing.assert_allclose(normaliser.observe(jnp.asarray(obs)).ravel(), [-1.2247, 1.2247, 0], atol=1e-3)


def test_a_dict_with_a_mask_is_measured_part_by_part():
    inner = spaces.Dict({"t": spaces.Box(-np.inf, np.inf, (1,), np.float64), "n": spaces.Box(0, 9, (1,), np.int16)})
    space = spaces.Dict({"observation": inner, "action_mask": spaces.Box(0, 1, (3,), np.int8)})
    normaliser = Normaliser.start(space, normalize_obs=True, normalize_rewards=False)
    normaliser = Normaliser(
        obs={**normaliser.obs, "t": BoxStatistics(jnp.float32([7]), moments([0], [1], 8), narrowed=True)},
        returns=None,
        masked=True,
    )
    mask = np.ones((2, 3), np.int8)
    obs = {"observation": {"t": np.array([[7.5], [6]]), "n": np.int16([[1], [2]])}, "action_mask": mask}
    on_host, on_device = relative(normaliser.origins(), obs), normaliser.on_device(jax.tree.map(jnp.asarray, obs))
    for found in (on_host, on_device):
        np.testing.assert_array_equal(found["observation"]["t"], [[0.5], [-1]])
        np.testing.assert_array_equal(found["observation"]["n"], [[1], [2]])
        np.testing.assert_array_equal(found["action_mask"], mask)

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from ppo2.algorithm.minibatches import accumulate, flatten, minibatches, permutation, shuffle_bits
from ppo2.algorithm.rollout import Batch
from ppo2.numerics.precision import products
from ppo2.numerics.statistics import weighted_mean

bits = jax.jit(shuffle_bits, static_argnames=("epochs", "total", "shards"))
cut = jax.jit(minibatches, static_argnames="nminibatches")


@jax.jit
def orders_of(random):
    """(count, 1, rounds, n) random numbers to (count, n)."""
    return jax.vmap(permutation)(random[:, 0])


def orders(n, count, seed=0):
    return np.asarray(orders_of(bits(jax.random.key(seed), epochs=count, total=n, shards=1)))


def shuffled(n, seed=0):
    return orders(n, 1, seed)[0]


def numbered(steps=2, nenvs=4):
    """A batch (T, N, ...) whose every field says which step of which environment it is: 10 t + n."""
    ids = np.float32(10 * np.arange(steps)[:, None] + np.arange(nenvs))
    obs = {"image": np.stack([ids, ids], -1)[..., None] * np.ones((2, 3), np.float32), "number": ids}
    return Batch(obs=obs, actions=np.int32(ids), logp=ids, values=ids, advantages=ids, returns=ids, weights=ids)


def assert_together(batch):
    """All fields were moved in the same way."""
    for field in (*batch[1:-2], batch.obs["number"]):
        np.testing.assert_array_equal(field, batch.weights)
    image = np.asarray(batch.obs["image"])
    assert image.shape == (*batch.weights.shape, 2, 3)
    np.testing.assert_array_equal(image, np.broadcast_to(np.asarray(batch.weights)[..., None, None], image.shape))


@pytest.mark.parametrize("n", [1, 2, 3, 1000, 70_000])
def test_a_permutation_holds_each_number_once(n):
    order = shuffled(n)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", [1000, 70_000])
def test_permutations_of_other_keys_differ_and_of_the_same_do_not(n):
    one, again, other = (shuffled(n, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    # by chance one number in n stays where it is
    assert np.mean(one == other) < 0.01
    assert np.mean(one == np.arange(n)) < 0.01


def test_every_number_is_at_every_position_equally_often():
    found = orders(8, 20_000)
    table = [[np.sum(found[:, position] == number) for number in range(8)] for position in range(8)]
    # rows and columns add up to 20,000, which leaves 7 * 7 counts free
    statistic = ((np.array(table) - 2500) ** 2 / 2500).sum()
    assert 1e-3 < scipy.stats.chi2.sf(statistic, 49) < 1 - 1e-3


def test_every_order_is_equally_likely():
    found = orders(3, 20_000)
    counts = [np.all(found == order, axis=1).sum() for order in itertools.permutations(range(3))]
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    "n",
    [
        1000,
        65_536,
        70_000,
    ],
)
def test_ties_leave_no_order(n):
    # Of random neighbours half ascend, with variance (n + 1) / 12; ties, which keep their order, would add to them.
    ascents = np.sum(np.diff(shuffled(n)) > 0)
    assert abs(ascents - (n - 1) / 2) < 4 * np.sqrt((n + 1) / 12)


def test_a_large_permutation_has_no_trend():
    order = shuffled(70_000)
    table, _, _ = np.histogram2d(np.arange(70_000), order, bins=10)
    assert 1e-3 < scipy.stats.chi2.sf(((table - 700) ** 2 / 700).sum(), 81) < 1 - 1e-3


def test_flatten_is_block_major():
    flat = flatten(jax.tree.map(jnp.asarray, numbered()), shards=2)
    # environments 0 and 1 through time, then 2 and 3
    np.testing.assert_array_equal(flat.weights, [0, 1, 10, 11, 2, 3, 12, 13])
    assert_together(flat)
    np.testing.assert_array_equal(flatten(numbered(), shards=1).weights, [0, 1, 2, 3, 10, 11, 12, 13])
    np.testing.assert_array_equal(flatten(numbered(), shards=4).weights, [0, 10, 1, 11, 2, 12, 3, 13])


def random_for(shards, seed=0):
    """To shuffle the 24 steps of `numbered(steps=6)` once."""
    return bits(jax.random.key(seed), epochs=1, total=24, shards=shards)[0]


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_minibatches_hold_each_sample_once_and_a_like_share_of_every_block(shards):
    found = cut(flatten(numbered(steps=6), shards), random_for(shards), nminibatches=3)
    assert_together(found)
    samples = np.asarray(found.weights)
    assert samples.shape == (3, 8)
    np.testing.assert_array_equal(np.sort(samples.ravel()), np.sort(numbered(steps=6).weights.ravel()))
    block = (samples % 10) // (4 // shards)
    for minibatch in block:
        np.testing.assert_array_equal(np.bincount(np.int64(minibatch), minlength=shards), [8 // shards] * shards)


def test_minibatches_differ_by_key():
    batch = flatten(numbered(steps=6), 2)
    one, again, other = (cut(batch, random_for(2, seed), nminibatches=3).weights for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.any(np.asarray(one) != np.asarray(other))


def test_epochs_and_blocks_are_shuffled_in_their_own_ways():
    random = bits(jax.random.key(0), epochs=3, total=4000, shards=2)
    found = np.asarray(jax.vmap(jax.vmap(permutation))(random)).reshape(6, 2000)
    for one, other in itertools.combinations(found, 2):
        assert np.mean(one == other) < 0.01


def test_two_processes_with_a_block_each_cut_the_same_minibatches():
    # each process sees its two environments only, and takes its row of the random numbers
    random, batch = random_for(2, seed=3), numbered(steps=6)
    whole = cut(flatten(batch, 2), random, nminibatches=3).weights
    shares = []
    for block in range(2):
        mine = jax.tree.map(lambda x, block=block: x[:, 2 * block : 2 * block + 2], batch)
        shares.append(cut(flatten(mine, 1), random[block : block + 1], nminibatches=3).weights)
    np.testing.assert_array_equal(whole, np.concatenate(shares, axis=1))


def weighted(weights):
    """8 samples of random observations."""
    numbers = jax.random.normal(jax.random.key(2), (8, 3))
    return Batch(*[numbers] * 6, weights=jnp.asarray(weights, jnp.float32))


@pytest.mark.parametrize("piece", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "weights",
    [[1] * 8, [1, 0, 1, 1, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 0, 1], [0] * 8],  # the third: its first half is empty
    ids=str,
)
def test_accumulated_pieces_equal_the_whole(piece, weights):
    batch = weighted(weights)

    def gradient(batch):
        def loss(x):
            with products():  # as in our programs
                return weighted_mean(jnp.tanh(batch.obs @ x) ** 2, batch.weights)

        return jax.grad(loss)(jnp.arange(3.0)), {"sum": weighted_mean(batch.obs, batch.weights)}

    found, expected = accumulate(gradient, batch, piece), gradient(batch)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    if any(weights):
        mean = np.asarray(batch.obs)[np.asarray(weights) == 1].mean(axis=0)  # by hand
        np.testing.assert_allclose(found[1]["sum"], mean, atol=1e-6)

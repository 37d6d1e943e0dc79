import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics.randomness import (
    Purpose,
    as_keys,
    environment_keys,
    environment_seeds,
    folded,
    for_drawing,
    fresh_seed,
    host_environment_keys,
    host_generator,
    host_split,
    root_key,
    stream,
)


def words(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


SEEDS = [0, 1, 2, 1234, 2**31 - 1]


@pytest.mark.parametrize(
    "seed",
    [*SEEDS, 30, 37],
)
def test_no_two_environments_share_a_seed(seed):
    seeds = environment_seeds(seed, Purpose.ENV, 10_000)
    assert len(set(seeds)) == 10_000


def test_seeds_fit_any_environment():
    seeds = environment_seeds(0, Purpose.ENV, 1000)
    assert {type(seed) for seed in seeds} == {int}
    assert min(seeds) >= 0
    # spread over all of the 31 bits
    assert 2**30 < max(seeds) < 2**31


def test_seeds_go_by_global_index():
    # two processes with 3 environments each, or one with 6
    whole = environment_seeds(5, Purpose.ENV, 6)
    assert environment_seeds(5, Purpose.ENV, 3) + environment_seeds(5, Purpose.ENV, 3, first=3) == whole


def test_seeds_differ_by_seed_and_purpose():
    purposes = (Purpose.ENV, Purpose.EVALUATE)
    found = [environment_seeds(seed, purpose, 100) for seed in SEEDS for purpose in purposes]
    assert len(set(itertools.chain(*found))) == 100 * len(SEEDS) * len(purposes)


def test_seeds_are_the_same_in_every_version():
    # runs are resumed by them
    assert environment_seeds(0, Purpose.ENV, 3) == [1538509758, 2045461871, 404930336]
    assert words(root_key(0)) == (2968811710, 3677149159)


def test_keys_are_threefry_and_differ_by_seed_and_purpose():
    # 0 and 2**32 would be the same in 32 bits
    keys = [root_key(seed) for seed in (*SEEDS, 2**32, 2**32 + 1)]
    assert {str(jax.random.key_impl(key)) for key in keys} == {"threefry2x32"}
    branches = [stream(key, purpose, count) for key in keys for purpose in Purpose for count in range(3)]
    on_the_host = [root_key(seed, purpose) for seed in SEEDS for purpose in Purpose]
    assert len({words(key) for key in keys + branches + on_the_host}) == len(keys + branches + on_the_host)


def test_streams_by_hand():
    # one fold by 16 * counter + purpose, on the host or traced: room for purposes to come
    key = root_key(0)
    expected = words(jax.random.fold_in(key, 16 * 7 + 2))
    assert words(stream(key, Purpose.SHUFFLE, 7)) == expected
    assert words(jax.jit(lambda key, count: stream(key, Purpose.SHUFFLE, count))(key, np.int32(7))) == expected


def test_keys_split_on_the_host_differ():
    parents = [root_key(0), root_key(1), *host_split(root_key(2), 2)]
    keys = [child for parent in parents for child in host_split(parent, 5)]
    assert len({words(key) for key in parents + keys}) == 4 + 20
    assert [words(key) for key in host_split(root_key(0), 5)] == [words(key) for key in keys[:5]]
    assert {str(jax.random.key_impl(key)) for key in keys} == {"threefry2x32"}


def test_generators_on_the_host_follow_the_key():
    one, again, other = (host_generator(key).random(5) for key in (root_key(0), root_key(0), root_key(1)))
    np.testing.assert_array_equal(one, again)
    assert not np.any(one == other)
    # by both of its words
    keys = [jax.random.wrap_key_data(np.uint32(pair), impl="threefry2x32") for pair in ([5, 1], [5, 2], [4, 1])]
    assert len({host_generator(key).random() for key in keys}) == 3


def test_keys_are_threefry_whatever_the_default():
    with jax.default_prng_impl("rbg"):
        assert words(root_key(3)) == words(root_key(3))
        assert str(jax.random.key_impl(root_key(3))) == "threefry2x32"


def test_the_numbers_of_purposes_stay():
    # they are part of saved runs
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "INIT": 0,
        "ACT": 1,
        "SHUFFLE": 2,
        "ENV": 3,
        "STEP": 4,
        "EVALUATE": 5,
    }


def test_fresh_seeds_are_fresh():
    seeds = {fresh_seed() for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_nothing_global_is_touched():
    # in a process of its own: by the import, and by drawing every kind of seed
    program = """
import random, numpy as np, jax
random.seed(1), np.random.seed(1)
def state():
    kind, words, *rest = np.random.get_state()
    return random.getstate(), kind, words.tolist(), rest, dict(jax.config.values)
before = state()
import ppo2, ppo2.numerics.randomness as r
r.stream(r.root_key(3), r.Purpose.ACT, 0), r.host_split(r.root_key(3), 2)
r.environment_seeds(3, r.Purpose.ENV, 4), r.fresh_seed()
changed = [(a, b) for a, b in zip(before, state()) if a != b]
assert not changed, changed
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_folds_are_those_of_jax(impl):
    key, counters = jax.random.key(7, impl=impl), jnp.array([0, 1, 5, 2**31 - 1], jnp.int32)
    expected = jax.vmap(jax.random.fold_in, (None, 0))(key, counters)
    found = jax.jit(jax.vmap(folded, (None, 0)))(key, counters)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(expected))
    np.testing.assert_array_equal(
        jax.random.key_data(stream(key, Purpose.ENV, 3)), jax.random.key_data(jax.random.fold_in(key, 3 * 16 + 3))
    )


def drawn(key):
    """Numbers of every kind that distributions draw, from a key and from those that it splits into."""
    one, two = jax.random.split(key)
    return (
        jax.random.bits(key, (3, 1, 5), jnp.uint32),
        jax.random.gumbel(one, (7, 2), jnp.float32),
        jax.random.logistic(two, (4,), jnp.float32),
        jax.random.normal(jax.random.fold_in(key, 9), (), jnp.float32),
        jax.random.bits(key, (5,), jnp.uint8),
    )


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("partitionable", [True, False])
def test_keys_for_drawing_give_the_numbers_that_jax_gives(impl, partitionable):
    with jax.threefry_partitionable(partitionable):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(7, impl=impl), jnp.arange(3))
        for expected, found in zip(jax.vmap(drawn)(keys), jax.jit(jax.vmap(drawn))(for_drawing(keys)), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_of_environments_are_the_same_on_the_host(impl):
    key, envs = jax.random.key(7, impl=impl), np.array([0, 1, 5, 2**32 - 1], np.uint32)
    for counter in (0, 3, 2**29):
        expected = environment_keys(key, [Purpose.ACT], counter, jnp.asarray(envs))[0]
        found = as_keys(host_environment_keys(key, Purpose.ACT, counter, envs))
        np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(expected))


def test_keys_on_the_host_overflow_without_a_warning():
    key = jax.random.wrap_key_data(np.full(2, 2**32 - 1, np.uint32), impl="threefry2x32")
    found = as_keys(host_environment_keys(key, Purpose.ACT, 0, np.arange(2)))
    expected = environment_keys(key, [Purpose.ACT], 0, jnp.arange(2))[0]
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(expected))

"""The data axis: how many blocks of environments there are, and which devices take them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from ppo2.numerics.sharding import ONE_DEVICE, DataAxis, default_shards, split_for


def has_devices(monkeypatch: pytest.MonkeyPatch, *counts: int) -> None:
    """Makes JAX say that processes have so many devices each."""
    there = [
        SimpleNamespace(platform="cpu", process_index=rank) for rank, count in enumerate(counts) for _ in range(count)
    ]
    monkeypatch.setattr(jax, "devices", lambda: there)


def test_shards_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 32 environments for each device; and blocks of one size."""
    expected = {1: {8: 1, 4096: 1}, 4: {31: 1, 63: 1, 64: 2, 96: 3, 97: 1, 100: 2, 128: 4, 130: 2, 4096: 4}}
    for devices, by_nenvs in expected.items():
        has_devices(monkeypatch, devices)
        assert {nenvs: default_shards(nenvs, 16, 4) for nenvs in by_nenvs} == by_nenvs


def test_shards_that_minibatches_cannot_be_cut_of_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 minibatches of 64 x 1 steps: one block of 64 can be cut so, two of 32 can't."""
    has_devices(monkeypatch, 2)
    assert default_shards(64, 1, 64) == 1
    assert default_shards(64, 2, 64) == 2


def test_devices_take_whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {1: {1: 1, 6: 1}, 4: {1: 1, 2: 2, 3: 3, 4: 4, 5: 1, 6: 3, 8: 4, 10: 2}}
    for devices, by_shards in expected.items():
        has_devices(monkeypatch, devices)
        assert {shards: split_for(shards) for shards in by_shards} == {s: DataAxis(n) for s, n in by_shards.items()}


def test_of_several_processes_the_one_with_the_fewest_devices_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    has_devices(monkeypatch, 4, 2)
    assert default_shards(256, 16, 4) == 4
    assert split_for(8) == DataAxis(4, processes=2)
    with pytest.raises(ValueError, match=r"`devices` \(=3\) must be from 1 to 2"):
        split_for(8, devices=3)


def test_one_block_has_nobody_to_talk_to() -> None:
    tree = {"a": jnp.arange(3.0), "b": jnp.int32(2)}
    assert ONE_DEVICE.index == 0
    assert ONE_DEVICE.sum(tree) is tree
    assert {name: x.shape for name, x in ONE_DEVICE.gather(tree).items()} == {"a": (1, 3), "b": (1,)}

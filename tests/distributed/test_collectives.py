"""Collectives among real processes."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2.agent.model import Model
from ppo2.distributed import collectives
from ppo2.training.learn import learn
from support.jobs import SMALL, Job, call_in_child, with_devices


def with_own_parameters(rank: int) -> Callable[..., Model]:
    """A `model_fn` whose parameters don't follow from `seed`, as those of an unbuilt Keras model."""

    def make(**given: Any) -> Model:
        model = Model(**given)
        model.state = model.state._replace(params=model.state.params + rank)
        return model

    return make


def use_all_collectives() -> None:
    os.environ["XLA_FLAGS"] = with_devices(3 - int(os.environ["JAX_PROCESS_ID"]))  # machines differ
    mine = ppo2.distributed.init(heartbeat=1.0)
    assert jax.local_device_count() == 3 - mine.rank

    collectives.MOST_GATHERED, collectives.MOST_BROADCAST = 2**12, 2**11
    messages = [bytes([rank]) * (3000 * rank + 1500) for rank in range(2)]
    assert collectives.all_gather_bytes(messages[mine.rank]) == messages
    assert collectives.all_gather_bytes(messages[mine.rank], to_first=True) == (messages if mine.is_first else [])
    assert collectives.broadcast_bytes(messages[1] if mine.is_first else b"") == messages[1]
    assert collectives.broadcast_bytes(b"") == b""

    tensors = {"x": np.full((2, 700 * mine.rank + 1), mine.rank), "empty": np.zeros((0, 3), np.float32)}
    gathered = collectives.gather_tensors(tensors)
    assert [one["x"].tolist() for one in gathered] == ([[[0], [0]], [[1] * 701] * 2] if mine.is_first else [])
    told = collectives.broadcast_tensors(tensors if mine.is_first else {})
    assert {name: tensor.tolist() for name, tensor in told.items()} == {"x": [[0], [0]], "empty": []}

    key = jax.random.key(mine.rank)
    tree = {"a": jnp.full(700, mine.rank, jnp.bfloat16), "key": key}
    same, others = collectives.synchronise(tree)
    assert others == [1]
    assert (same["a"] == 0).all()
    assert same["a"].dtype == jnp.bfloat16
    assert (jax.random.key_data(same["key"]) == jax.random.key_data(jax.random.key(0))).all()
    assert collectives.synchronise(same) == (same, [])
    with pytest.raises(ValueError, match="the process of rank 1 has another model"):
        collectives.synchronise(jnp.zeros(mine.rank))

    # an error that all share is theirs to catch
    for _ in range(2):
        with pytest.raises(ValueError, match=r"`nminibatches` \(=7\)"):
            learn(env="CartPole-v1", **{**SMALL, "nminibatches": 7})

    def change(update: int, model: Model) -> None:
        if update == 2:
            model.state = model.state._replace(params=model.state.params * (1 + mine.rank))

    own = with_own_parameters(mine.rank)
    model = learn(env="CartPole-v1", **SMALL, seed=1, model_fn=own, update_fn=change, log_interval=1)
    params = np.asarray(model.state.params).tobytes()
    assert collectives.all_gather_bytes(params) == [params] * 2
    of_devices = {**SMALL, "num_envs": 256, "shards": None, "total_timesteps": 2 * 256 * 32}
    model = learn(env="gymnax:CartPole-v1", **of_devices)
    assert model.config.shards == 4
    if mine.is_first:
        time.sleep(2.5)  # work of its own, while the others have ended


def test_collectives_among_processes_with_different_numbers_of_devices(tmp_path: Path) -> None:
    job = Job(tmp_path, *call_in_child(use_all_collectives))
    assert job.end() == [0, 0], job.output()
    said = "".join(job.output("out"))
    assert said.count("when training began, the model was another one in rank 1 than in rank 0") == 1
    assert said.count("at update 3, the model was another one in rank 1 than in rank 0") == 1


def test_in_a_process_by_itself_each_is_the_identity() -> None:
    assert collectives.all_gather({"a": float("inf")}) == [{"a": float("inf")}]
    assert collectives.broadcast(1) == collectives.run_on_first(lambda: 1) == 1
    assert collectives.all_gather_bytes(b"x" * 3000) == [b"x" * 3000]
    assert collectives.broadcast_bytes(b"abc") == b"abc"
    tensors = {"x": np.arange(3)}
    assert collectives.gather_tensors(tensors) == [tensors]
    assert collectives.broadcast_tensors(tensors) is tensors
    assert collectives.synchronise(tensors) == (tensors, [])

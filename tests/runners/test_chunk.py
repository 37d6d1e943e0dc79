"""Chunks: how many updates one call of a program makes."""

import numpy as np

from ppo2.numerics.sharding import ONE_DEVICE
from ppo2.runners.chunk import ChunkSize
from ppo2.runners.ends import slot_bytes
from support.device_cartpole import fresh


def test_a_chunk_has_as_many_updates_as_take_a_second() -> None:
    size = ChunkSize(1024, log_interval=10)
    assert (size.capacity, size.updates) == (10, 1)  # nobody knows yet how long one takes
    for seconds, updates in ((0.3, 3), (2.0, 1), (1e-9, 10)):
        size.seconds = seconds
        assert size.updates == updates


def test_a_chunk_has_room_for_its_episodes() -> None:
    """Place, return and length, 4 bytes each, for 2,048 rows and the last hundred: 2^22 bytes hold 162 updates."""
    assert slot_bytes(2**21, 0, 2048, ONE_DEVICE) == 12 * 2148
    assert ChunkSize(12 * 2148, log_interval=1000).capacity == 162
    assert ChunkSize(2**30, log_interval=10).capacity == 1


def test_numbers_of_a_chunk_are_filled_up_with_the_last() -> None:
    size, model = ChunkSize(1024, log_interval=4), fresh()
    stacked = size.stack([model.hyperparameters(lr=lr, cliprange=0.1) for lr in (3.0, 2.0)])
    assert stacked.lr.tolist() == [3.0, 2.0, 2.0, 2.0]
    assert stacked.lr.dtype == np.float32

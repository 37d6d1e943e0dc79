"""The part that each process has in a training."""

import pytest

from ppo2.distributed import World
from ppo2.distributed.parts import check_agreed, local_num_envs


def test_environments_are_divided_equally_or_refused() -> None:
    with pytest.raises(ValueError, match=r"`num_envs` \(=3\) counts the environments of all 2 processes.*such as 4"):
        local_num_envs(3, 8, World(0, 2))
    assert local_num_envs(None, 8, World(0, 3)) == 3  # 8 or a few more
    assert local_num_envs(6, 8, World(0, 3)) == 2


def test_a_process_by_itself_has_all_environments() -> None:
    assert local_num_envs(None, 8, World(0, 1)) is None
    assert local_num_envs(5, 8, World(0, 1)) == 5


def test_settings_that_differ_are_named_with_both_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    check_agreed({"gamma": 0.9})
    told = [{"seed": 1, "gamma": 0.9}, {"seed": 1, "gamma": 0.9}, {"seed": 1, "gamma": 0.5}]
    monkeypatch.setattr("ppo2.distributed.collectives.all_gather", lambda settings: told)
    with pytest.raises(ValueError, match=r"`gamma` is 0\.9 in the process of rank 0 and 0\.5 in that of rank 2"):
        check_agreed(told[0])

"""Processors that a process may use."""

import os
from pathlib import Path

import pytest

from ppo2.system import processors
from ppo2.system.processors import usable_processors


def test_processors_of_a_machine_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun = {"MASTER_ADDR": "a", "MASTER_PORT": "1", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    sets = {0: set(range(8)), os.getppid(): set(range(8))}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: sets[process], raising=False)
    assert usable_processors() == 2
    sets[0] = {2, 3, 4}  # given by the launcher
    assert usable_processors() == 3


def test_cards_count_where_jax_can_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", lambda folder: ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"])
    monkeypatch.setattr(processors, "CUDA_PLUGINS", ("no_such_plugin",))
    assert processors.nvidia_cards() == 0
    monkeypatch.setattr(processors, "CUDA_PLUGINS", ("no_such_plugin", "json"))
    assert processors.nvidia_cards() == 2


@pytest.mark.parametrize(
    ("described", "lacks"),
    [
        ("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", False),
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("processor : 0\nFeatures\t: fp asimd bf16\n", False),  # ARM
        (None, False),  # another system
    ],
)
def test_processors_without_amx_are_known(monkeypatch: pytest.MonkeyPatch, described: str | None, lacks: bool) -> None:
    def read_text(path: Path) -> str:
        assert path == Path("/proc/cpuinfo")
        if described is None:
            raise FileNotFoundError
        return described

    monkeypatch.setattr(Path, "read_text", read_text)
    assert processors.lacks_bfloat16_tiles() is lacks

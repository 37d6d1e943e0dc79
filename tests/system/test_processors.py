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


def test_a_process_of_a_sweep_counts_the_processors_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that change bits see those of all; workers keep to its own processors."""
    monkeypatch.setattr(processors, "_of_all", None)
    chosen: list[list[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(chosen[-1] if chosen else range(8)), raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, mine: chosen.append(list(mine)), raising=False)
    assert processors.own_processors() == usable_processors()
    assert processors.shares(3) == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert processors.shares(9)[7:] == [[7], [0]]
    monkeypatch.delenv("NPROC", raising=False)
    assert processors.xla_threads() == {"PJRT_NPROC": "8"}
    monkeypatch.setenv("NPROC", "3")
    assert processors.xla_threads() == {}  # the user has said it, and the process inherits it
    processors.take_share(8, [2, 3])
    assert chosen == [[2, 3]]
    assert (usable_processors(), processors.own_processors()) == (8, 2)


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (["250000 100000\n"], 2),
        (["50000 100000\n"], 1),
        (["max 100000\n"], None),
        ([None, "400000\n", "100000\n"], 4),
        ([None, "-1\n", "100000\n"], None),
        ([None, None, None], None),
    ],
)
def test_the_quota_of_a_container(contents: list[str | None], expected: int | None, tmp_path: Path) -> None:
    files = []
    for number, content in enumerate(contents):
        files.append(str(tmp_path / str(number)))
        if content is not None:
            Path(files[-1]).write_text(content)
    assert processors.quota(files) == expected


@pytest.mark.parametrize(("content", "expected"), [("4.67 2.92 2.50 3/149 3901\n", 3), ("0.00 0.00 0.00 0/0 0\n", 1)])
def test_threads_that_run_now(content: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loadavg").write_text(content)
    assert processors.running_now(str(tmp_path / "loadavg")) == expected
    monkeypatch.setattr(os, "getloadavg", lambda: (2.2, 0.0, 0.0), raising=False)
    assert processors.running_now(str(tmp_path / "none")) == 3  # elsewhere: the last minute's, and this process

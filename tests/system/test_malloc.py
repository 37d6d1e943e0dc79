"""glibc's malloc: told what suits training, unless the user has tuned it."""

import ctypes
import sys
from types import SimpleNamespace

import pytest

from ppo2.system import malloc


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The calls of mallopt, which change nothing."""
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *call: calls.append(call), malloc_trim=lambda _: 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_malloc_is_told(told: list[tuple[int, int]]) -> None:
    malloc.share_arenas(3)
    malloc.keep_freed_memory()
    assert told == [(-8, 6), (-4, 0), (-1, 2**31 - 1), (-2, 2**26)]


def test_malloc_as_the_user_has_tuned_it_stays(told: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1000")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_max=9")
    malloc.share_arenas(3)
    malloc.keep_freed_memory()
    assert [number for number, _ in told] == [-1]


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_alone(
    system: str, told: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    malloc.share_arenas(3)
    malloc.keep_freed_memory()
    assert told == []


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    monkeypatch.setattr(sys, "platform", "linux")
    malloc.share_arenas(1)
    malloc.keep_freed_memory()

"""Compiled programs are kept between tests, processes and runs: compiling is most of what the tests do."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.children import HALF_WRITTEN_PROGRAM


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    parser.addoption("--learning-json", metavar="FILE", help="write the results of learning there (bench/document.py)")
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "seconds of a test: those of a plugin that isn't installed or is switched off")


def pytest_configure(config: pytest.Config) -> None:
    here = Path(__file__).parent
    # processes that tests start import test modules and their helpers by the same names
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(here.parent), str(here), before]))
    cache = getattr(config, "cache", None)  # absent with `-p no:cacheprovider`
    folder = None if cache is None else cache.mkdir("jax")
    if folder is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        os.environ.setdefault("PYTHONWARNINGS", HALF_WRITTEN_PROGRAM)
        config.addinivalue_line("filterwarnings", HALF_WRITTEN_PROGRAM)
    # whatever is tested first, JAX is as it comes; processes that tests start make their own settings
    with pytest.MonkeyPatch.context() as patch:
        from ppo2.system import runtime

        patch.setenv("PPO2_CONFIGURE", "0")
        runtime.begin()


@pytest.fixture
def quickly_compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Programs are hardly optimised: each takes a third of the time to compile, and only what it computes is looked at.
    Those of the core, and of tests marked as exact, are compiled as users' are.
    """
    with contextlib.nullcontext() if _is_exact(request.node) else _quickly():
        yield


@pytest.fixture(scope="module")
def all_quickly_compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """The same for what the tests of a module share, too; none of them may be of the core, or exact."""
    assert not any(_is_exact(item) for item in request.session.items if item.path == request.path)
    with _quickly():
        yield


def _is_exact(test: pytest.Item) -> bool:
    return any(test.get_closest_marker(name) for name in ("core", "exact"))


def _quickly() -> contextlib.AbstractContextManager[None]:
    from support.compiling import quickly  # loads JAX

    return quickly()


@pytest.fixture
def on_cpu() -> Iterator[None]:
    """A CPU is in use, also on a machine with a card."""
    import jax

    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.fixture
def no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """No learning curves are drawn."""
    from ppo2 import plot

    monkeypatch.setattr(plot, "curve", lambda *_: None)

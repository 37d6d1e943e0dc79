import os
import sys

import pytest

from ppo2.evaluation import renderers


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "mujoco", object())
    renderers._found.cache_clear()
    yield
    renderers._found.cache_clear()


@pytest.mark.parametrize(
    ("there", "broken", "chosen"),
    [
        (["egl", "osmesa"], [], "egl"),
        (["egl", "osmesa"], ["egl"], "osmesa"),  # its library without a driver
        (["egl", "osmesa"], ["egl", "osmesa"], "egl"),  # whose error is told
        (["osmesa"], [], "osmesa"),
        (["egl"], ["egl"], "egl"),
        ([], [], None),
    ],
)
def test_egl_where_it_works_else_osmesa(monkeypatch, there, broken, chosen):
    monkeypatch.setattr(renderers, "is_missing", lambda name: name not in there)
    monkeypatch.setattr(renderers, "obstacle", lambda name: "no driver" if name in broken else "")
    assert renderers.chosen() == chosen
    with renderers.headless():
        assert os.environ.get("MUJOCO_GL") == chosen
    assert "MUJOCO_GL" not in os.environ


def test_what_the_user_set_and_a_display_stay(monkeypatch):
    monkeypatch.setattr(renderers, "is_missing", lambda name: name != "egl")
    assert renderers.chosen() == "egl"
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert renderers.chosen() is None
    with renderers.headless():
        assert os.environ["MUJOCO_GL"] == "glfw"
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setenv("DISPLAY", ":0")
    assert renderers.chosen() is None


def test_the_remedy_names_what_is_missing(monkeypatch):
    there: list[str] = []
    monkeypatch.setattr(renderers, "is_missing", lambda name: name not in there)
    assert "neither library is here: apt-get install libegl1" in renderers.remedy()
    there.append("osmesa")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert renderers.remedy().endswith("set MUJOCO_GL=osmesa in place of glfw.")
    monkeypatch.setenv("DISPLAY", ":0")
    assert renderers.remedy() == ""
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delitem(sys.modules, "mujoco")
    assert renderers.remedy() == ""

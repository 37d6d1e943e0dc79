"""Cards that aren't there, and cards that are not to be seen, whatever machine the tests run on."""

import jax
import pytest

from ppo2.numerics import compilation


def fake_card(monkeypatch: pytest.MonkeyPatch) -> tuple[jax.Device, jax.Device]:
    """Has JAX seem to prefer a GPU. Its first device, its default, plays that, the last one the CPU; returns both."""
    card, cpu = jax.devices()[0], jax.devices()[-1]
    _show(monkeypatch, {None: card, "gpu": card, "cpu": cpu})
    monkeypatch.setattr(compilation, "_kind_of", lambda device: "gpu" if device == card else "cpu")
    return card, cpu


def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has JAX seem to have nothing but a CPU, which its default device plays."""
    _show(monkeypatch, {None: jax.devices()[0], "cpu": jax.devices()[0]})
    monkeypatch.setattr(compilation, "_kind_of", lambda device: "cpu")


def _show(monkeypatch: pytest.MonkeyPatch, places: dict[str | None, jax.Device]) -> None:
    def all_devices(kind: str | None) -> list[jax.Device]:
        if kind not in places:
            raise RuntimeError(f"Unknown backend {kind}")
        return [places[kind]]

    monkeypatch.setattr(compilation, "_all_devices", all_devices)

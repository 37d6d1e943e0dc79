"""A card that isn't there: JAX's first CPU device, its default, plays it, and the last plays the CPU."""

import jax
import pytest

from ppo2.numerics import compilation


def fake_card(monkeypatch: pytest.MonkeyPatch) -> tuple[jax.Device, jax.Device]:
    """Has JAX seem to prefer a GPU; returns what plays it, and the CPU beside it: the same of a single device."""
    card, cpu = jax.devices()[0], jax.devices()[-1]
    places = {None: card, "gpu": card, "cpu": cpu}

    def all_devices(kind: str | None) -> list[jax.Device]:
        if kind not in places:
            raise RuntimeError(f"Unknown backend {kind}")
        return [places[kind]]

    monkeypatch.setattr(compilation, "_all_devices", all_devices)
    monkeypatch.setattr(compilation, "_kind_of", lambda device: "gpu" if device == card else "cpu")
    return card, cpu

"""The processors that a model acts and learns on: the CPU or an accelerator, by a fixed rule, unless the user says.

A call of the accelerator has a price whatever it computes: on an H200 acting took 0.2 to 0.5 ms for 8 to 8,192
observations alike, NumPy to NumPy. So the work decides: the operations of a call or of a gradient step, as XLA counts
them.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ppo2 import spaces
from ppo2.config import check_settings
from ppo2.numerics.compilation import Place, compiled, computing_on, place_of, platform, user_has_chosen
from ppo2.system.runtime import jax_platforms

if TYPE_CHECKING:
    from ppo2.agent.model import Model

MOST_TO_ACT = 4e7
"""Operations of a call, the value's included, up to which a CPU acts. Beside the card's 0.2 to 0.5 ms the CPU of that
machine (16 cores) took, for two MLPs of 2 x 64 (1.8e4 operations each), 0.02, 0.03, 0.21 and 0.72 ms for 8, 64, 1,024
and 8,192 observations; for two of 2 x 256 (2.8e5) 0.05 and 0.85 ms for 8 and 1,024; for Nature's CNN (1.9e7) 2.1 and
10.8 ms for 8 and 64 images."""
MOST_TO_LEARN = 6e7
"""Operations of a gradient step up to which a CPU learns, in about 1 ms. Two MLPs of 2 x 64 on 256 samples have 1.4e7,
and CartPole-v1 with 8 x 128 steps trained at 40,000 to 45,000 steps/s on the CPU, at 8,500 on the card; Nature's CNN
has 1.5e10. Between them nothing was measured."""
BACKWARD = 3
"""Operations of a gradient for each of the forward pass: itself, and its derivatives by inputs and by weights."""
FEW = 8
"""Observations of a call where nobody says how many: `ppo2.envs.DEFAULT_NUM_ENVS`."""

NAMES = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}


class Placement(NamedTuple):
    """The kinds of processors that a model acts and learns on; None: where JAX computes by default."""

    act: str | None = None
    learn: str | None = None

    def saved(self) -> dict[str, str]:
        """The kinds, those by default by name, as a run keeps them."""
        return {"act": self.act or platform(), "learn": self.learn or platform()}


UNPLACED = Placement()


def asked_place(device: str) -> Place | None:
    """The place that the argument `device` names; None for "auto".

    Raises:
        ValueError: there is no such device here, or `device` is none of the words.
    """
    check_settings({"device": device})
    if device == "auto":
        return None
    place = place_of(device)
    if place is None:
        allowed, default = jax_platforms(), place_of()
        found = "no devices" if default is None else f"only {', '.join(str(x) for x in default.devices[:2])}"
        left_out = f"JAX_PLATFORMS (={allowed!r}) leaves it out. " if allowed else ""
        install = "docs/gpu.md says how to install JAX for a card. " if device == "gpu" else ""
        raise ValueError(
            f"`device` (={device!r}): JAX has no {NAMES[device]} here, {found}. {left_out}{install}'auto' takes what "
            "there is."
        )
    return place


def place_to_begin(device: str, *, on_device: bool) -> Place | None:
    """The place to make a model in; None: JAX's default. A new model is made on the CPU: most models stay there.

    Args:
        on_device: it is for device environments, whose work isn't divided.

    Raises:
        ValueError: see `asked_place`.
    """
    asked = asked_place(device)
    if asked is not None or on_device or user_has_chosen() or not _has_both():
        return asked
    return place_of("cpu")


def choose(
    model: "Model", device: str, *, num_envs: int, on_device: bool = False, saved: Mapping[str, Any] | None = None
) -> Placement:
    """The placement of a model that acts for so many environments.

    Args:
        device: "cpu" and "gpu" do everything there. "auto" does what the run did before, if this machine can; else what
            the rule says. A device that the user has set as JAX's default, or that JAX prefers, goes before the rule.
        on_device: see `place_to_begin`.
        saved: `Placement.saved` of the run that goes on.

    Raises:
        ValueError: see `asked_place`.
    """
    asked, default = asked_place(device), place_of()
    if asked is not None:
        is_default = default is not None and default.kind == asked.kind and not user_has_chosen()
        return UNPLACED if is_default else Placement(asked.kind, asked.kind)
    if user_has_chosen():
        return UNPLACED
    before = _usable(saved)
    if before is not None:
        alone = default is not None and {default.kind} == set(before)
        return UNPLACED if alone and (on_device or not _has_both()) else before
    if not _has_both() or default is None:
        return UNPLACED
    with computing_on(place_of("cpu")):
        each = operations(model)
    if on_device:
        return Placement("cpu" if each * FEW <= MOST_TO_ACT else None, None)
    samples = model.config.nbatch / model.config.nminibatches
    if BACKWARD * each * samples <= MOST_TO_LEARN:
        return Placement("cpu", "cpu")
    return Placement("cpu" if each * num_envs <= MOST_TO_ACT else default.kind, default.kind)


def operations(model: "Model") -> float:
    """Floating-point operations of the policy for one observation; infinite where XLA doesn't say."""

    def forward(params: Float[Array, " P"], *of: Any) -> Any:
        output = model.policy_of(params)(*of)
        return output.distribution.mode(), output.values

    obs = jax.tree.map(jnp.asarray, spaces.zeros(model.observation_space, (1,)))
    start = model.initial_state(1)
    state = model.acting_state()
    lowered: Any = compiled(forward).lower(state.params, state.normaliser, obs, start)  # type: ignore[attr-defined]
    found = lowered.cost_analysis() or lowered.compile().cost_analysis()
    return float(found["flops"]) if isinstance(found, Mapping) and "flops" in found else math.inf


def described(placement: Placement) -> str:
    """The line of the plan that says where a model acts and learns; "" where there is nothing but a CPU."""
    kinds = placement.saved()
    default = place_of()
    if default is None or (default.kind == "cpu" and set(kinds.values()) == {"cpu"}):
        return ""
    used = place_of(kinds["learn"])
    card = "" if used is None or kinds["learn"] == "cpu" else f" ({used.here.device_kind})"
    return f"device    {_words(kinds)}{card}"


def changed(saved: Any, placement: Placement) -> str:
    """The line that says that a run goes on elsewhere; "" where it doesn't."""
    before, now = _kinds(saved), placement.saved()
    if before is None or before == now:
        return ""
    return f"this run {_words(before, 'acted', 'learned')}, and now {_words(now)}: its last bits may differ"


def _words(kinds: Mapping[str, str], acts: str = "acts", learns: str = "learns") -> str:
    act, learn = (NAMES.get(kinds[name], kinds[name]) for name in ("act", "learn"))
    return f"{acts} and {learns} on the {act}" if act == learn else f"{acts} on the {act} and {learns} on the {learn}"


def _has_both() -> bool:
    """True if JAX prefers an accelerator here, and has a CPU beside it."""
    default = place_of()
    return default is not None and default.kind != "cpu" and place_of("cpu") is not None


def _kinds(saved: Any) -> dict[str, str] | None:
    """`Placement.saved` from a file; None where it is something else."""
    if not isinstance(saved, Mapping):
        return None
    kinds = {name: str(saved.get(name)) for name in Placement._fields}
    return kinds if all(kind in NAMES for kind in kinds.values()) else None


def _usable(saved: Any) -> Placement | None:
    """The placement that a run had, if this machine has these processors."""
    kinds = _kinds(saved)
    if kinds is None or any(place_of(kind) is None for kind in set(kinds.values())):
        return None
    return Placement(**kinds)

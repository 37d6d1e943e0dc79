"""Loading a model from a checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ppo2 import networks
from ppo2.agent.files import encoding_in, restore, space_in
from ppo2.agent.model import Model
from ppo2.agent.placement import choose, place_to_begin
from ppo2.agent.policy import Policy, build_policy
from ppo2.checkpoints import checkpoint, tensors
from ppo2.config import Config, Device, is_placeholder, placeholder_in
from ppo2.numerics.compilation import computing_on, transfers_allowed
from ppo2.numerics.randomness import Purpose, abstract_key, root_key
from ppo2.system import runtime
from ppo2.system.calls import told_plainly


@told_plainly("ppo2.load('runs/x')")
@transfers_allowed
def load(
    path: str | Path,
    *,
    network: object = None,
    value_network: object = None,
    encoders: Mapping[str, Any] | None = None,
    model_fn: Callable[..., Model] | None = None,
    device: Device = Config.device,
    **network_kwargs: Any,
) -> Model:
    """The model in a checkpoint: in a file, or in the newest file of a folder or of a run directory.

    Args:
        path: a file, a folder of checkpoints, or a run directory.
        network: the network that was given to `learn`, if it was an object; a name is in the checkpoint.
        value_network: the same for the value's network.
        encoders: the same for encoders of parts of the observation.
        model_fn: the function or class that was given to `learn`.
        device: processor to act and learn on: "cpu", "gpu", or "auto": where the saved one did, if this
            machine can.
        **network_kwargs: arguments of the network's builder that were objects; numbers are in the checkpoint.

    Raises:
        ValueError: no checkpoint, a damaged or foreign one, or one that needs an argument it wasn't given; or no such
            device.
    """
    runtime.begin()
    begin = place_to_begin(device, on_device=False)
    saved = checkpoint.load(path)
    given = {"network": network, "value_network": value_network, "encoders": encoders, "model_fn": model_fn}
    given = {name: value for name, value in given.items() if value is not None}
    settings = {**saved.section("config"), **given}
    if network is not None and networks.check(network) is None:
        settings["network_kwargs"] = {}
    settings["network_kwargs"] = {**saved.section("config", "network_kwargs"), **network_kwargs}
    for name, value in {**{name: settings.get(name) for name in _OBJECTS}, **settings["network_kwargs"]}.items():
        placeholder = placeholder_in(name, value)
        if placeholder is not None:
            raise ValueError(
                f"the checkpoint {saved.path} was trained with an object ({placeholder['object']}) as `{name}`, which "
                f"no file can hold: pass it, ppo2.load(path, {name}=...)."
            )
    # Functions of frac, which only `learn` calls, and it has its own: the defaults stand in for them.
    for name in ("lr", "cliprange", "value_cliprange"):
        if is_placeholder(settings.get(name)):
            del settings[name]
    with computing_on(begin):
        model = _build(saved, settings, given, network_kwargs)
        restore(model, saved)
        model.place(choose(model, device, num_envs=model.config.num_envs, saved=saved.metadata.get("placement")))
    return model


def _build(
    saved: checkpoint.Checkpoint, settings: dict[str, Any], given: Mapping[str, Any], network_kwargs: Mapping[str, Any]
) -> Model:
    """The untrained model of these settings, of which some were `given`."""
    encoding = encoding_in(saved)
    observation_space, action_space = (space_in(saved, f"{kind}_space") for kind in ("observation", "action"))

    def build(key: PRNGKeyArray) -> Policy:
        return build_policy(
            observation_space,
            action_space,
            network=config.network,
            value_network=config.value_network,
            network_kwargs=config.network_kwargs,
            encoders=config.encoders,
            action_dist=config.action_dist,
            precision=config.precision,
            encoding=encoding,
            key=key,
        )

    try:
        config = Config.from_json(settings)
        if not given and not network_kwargs:
            _check_size(saved, build)
        make: Any = Model if config.model_fn is None else config.model_fn
        if not callable(make):
            raise TypeError(f"`model_fn` (={make!r}) must be a function, or None.")
        policy = build(root_key(config.seed, Purpose.INIT))
    except Exception as error:
        if given or network_kwargs:  # it may be what the caller gave
            raise
        raise ValueError(f"the checkpoint {saved.path} has settings that can't be: {error}") from error
    return make(policy=policy, config=config, key=root_key(config.seed))  # type: ignore[no-any-return]


_OBJECTS = ("network", "value_network", "encoders", "model_fn")
"""Settings that may be objects, and arguments of `load`."""


def _check_size(saved: checkpoint.Checkpoint, build: Callable[[PRNGKeyArray], Policy]) -> None:
    """Raises ValueError where the settings in a file don't make the parameters in it, before these are made: a lie
    about their size costs nothing.
    """
    try:
        shapes = eqx.filter_eval_shape(build, abstract_key())
    except jax.errors.JAXTypeError:  # a user's network, which computes with its key outside of JAX
        return
    like = eqx.filter(shapes, lambda x: hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact))
    tensors.check_parameters(saved, like)

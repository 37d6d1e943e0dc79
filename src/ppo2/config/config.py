"""The settings of a run: one line each, frozen, checked in one place."""

import dataclasses
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ppo2.config.info_keys import entries
from ppo2.config.logs import formats, tracker_options
from ppo2.config.placeholders import for_file
from ppo2.config.rules import SettingInfo, anything, arguments, flag, mapping, number, one_of, schedule, setting, whole
from ppo2.numerics.schedules import ScheduleLike

ActionDist: TypeAlias = Literal["gaussian", "squashed_gaussian"]
Device: TypeAlias = Literal["auto", "cpu", "gpu"]
OnNonfinite: TypeAlias = Literal["raise", "skip"]
Precision: TypeAlias = Literal["float32", "tf32", "bf16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a run: all arguments of `ppo2.learn` that change what is learned, logged, evaluated or saved.

    Raises:
        ValueError: a setting out of its range, or two that don't fit together.
        TypeError: a setting of the wrong type.
    """

    # fmt: off
    env: object = setting(
        None, anything, "environment to train on: an environment id, a gymnasium.Env, a gymnasium.vector.VectorEnv, "
        "or a function without arguments that makes an environment; or an environment in JAX, which trains without "
        'leaving the device: a ppo2.envs.DeviceEnv, or an id such as "gymnax:CartPole-v1". The environments of '
        'ppo2.make(backend="ray") are stepped by other processes, also on other machines.', null=True)
    eval_env: object = setting(
        None, anything, "an environment, in any form that `env` takes, to evaluate on at intervals with frozen "
        "statistics.", null=True)
    env_kwargs: Mapping[str, Any] = setting(
        dict, arguments, "keyword arguments of ppo2.make (max_episode_steps, frame_stack, workers, ...) and of the "
        "environment's constructor, if `env` is an id, a function or a class.")
    eval_env_kwargs: Mapping[str, Any] | None = setting(
        None, arguments, "the same for `eval_env`, in place of `env_kwargs`. None: those of `env_kwargs`, if "
        "`eval_env` is an id, or the same function as `env`.", null=True)
    total_timesteps: int = setting(
        0, whole(0, cut=True), "steps to take, over all environments; cut to whole updates of num_envs * nsteps. 0 "
        "returns the untrained (or loaded) model.")
    num_envs: int = setting(
        8, whole(1), "number of environments, if `env` is an id, a function or a device environment; None is 8. If "
        "several processes train (`ppo2.distributed`), each steps an equal part of them, and None is 8 or a few more.")
    network: object = setting(
        "mlp", anything, "the policy's network: a registered name (`ppo2 networks` lists them), a builder, or a "
        "network: an equinox.Module that maps one observation to a vector of features, or a Flax module (Linen or "
        "NNX) or a Keras 3 model on JAX that does so for a batch.")
    network_kwargs: Mapping[str, Any] = setting(
        dict, mapping("of names to values"), 'arguments of the network\'s builder; for mlp num_layers=2, '
        'num_hidden=64, activation="tanh", layer_norm=False.')
    value_network: object = setting(
        None, anything, 'None or "shared": the value is a second head on the network; "copy": it has a separate '
        "network of the same kind; or another network, in any form that `network` takes.", null=True)
    encoders: Mapping[str, Any] | None = setting(
        None, mapping("from paths in the observation to networks, such as {'camera': 'cnn_small'}"),
        "networks that encode parts of an observation (Dict, Tuple), by path, before `network` sees all parts side by "
        'side: {"camera": "cnn_small", "arm/angles": "mlp"}, in any form that `network` takes. Other parts are '
        "flattened, and images are encoded by cnn, or by cnn_small if they are small.", null=True)
    model_fn: object = setting(
        None, anything, "makes the model: model_fn(policy=..., config=..., key=...), such as a subclass of "
        "ppo2.Model.", null=True)
    seed: int = setting(
        0, whole(0), "seed of everything random; the same seed gives the same bits. None draws one and reports it.")
    nsteps: int = setting(
        2048, whole(1), "steps of each environment between two updates; the batch is num_envs * nsteps.")
    nminibatches: int = setting(4, whole(1), "number of minibatches that each epoch cuts the batch into.", static=True)
    noptepochs: int = setting(
        4, whole(1), "passes over the batch in each update; each pass shuffles it again.", static=True)
    lr: ScheduleLike = setting(
        3e-4, schedule(), "learning rate of Adam, a schedule; usually 1e-4 to 1e-3.", traced="update")
    cliprange: ScheduleLike = setting(
        0.2, schedule(), "largest distance of the probability ratio from 1 that the loss rewards, a schedule; usually "
        "0.1 to 0.3.", traced="update")
    value_cliprange: ScheduleLike | None = setting(
        "same", schedule("same"), 'limit of the value\'s change in an update: "same" as cliprange, a '
        "schedule, or None for no limit.", null=True, traced="update", apart=True)
    gamma: float = setting(0.99, number(most=1.0), "discount per step.", traced="rollout")
    lam: float = setting(
        0.95, number(most=1.0), "lambda of generalised advantage estimation: 0 relies on the value function, 1 on "
        "the rewards of the episode.", traced="rollout")
    ent_coef: float = setting(
        0.0, number(), "weight of the entropy bonus; usually 0 to 0.02.", traced="update")
    vf_coef: float = setting(0.5, number(), "weight of the value loss.", traced="update")
    max_grad_norm: float | None = setting(
        0.5, number(positive=True), "largest norm of the gradient, to which a larger one is scaled down; None: no "
        "limit.", null=True, traced="update")
    target_kl: float | None = setting(
        None, number(positive=True), "once a minibatch's mean approximate KL divergence exceeds it, the rest of the "
        "update is skipped; usually 0.01 to 0.05. None never skips.", null=True, traced="update", apart=True)
    bootstrap_truncated: bool = setting(
        True, flag, "count the value of the last observation if a time limit cut an episode short; False treats that "
        "as a true end, as the original does.", static=True)
    normalize_obs: bool = setting(
        False, flag, "scale observations that are no images to mean 0 and standard deviation 1, by running "
        "statistics.")
    normalize_rewards: bool = setting(
        False, flag, "divide rewards by the running standard deviation of discounted returns.")
    action_dist: ActionDist = setting(
        "gaussian", one_of(ActionDist), 'distribution of a Box\'s actions: "gaussian", clipped to the bounds, with '
        'standard deviations that don\'t depend on the observation; or "squashed_gaussian", mapped between the bounds, '
        "which must be finite, by tanh, with standard deviations that the network computes.", static=True)
    precision: Precision | None = setting(
        None, one_of(Precision), 'precision of the products (of matrices, of convolutions) in the networks: "float32"; '
        '"tf32", which NVIDIA\'s cards multiply faster, with 10 bits of each factor; or "bf16", with 7 bits, on every '
        "platform. Sums are float32, and so are all other products. None: float32, or "
        "`jax_default_matmul_precision` if you have set it.", null=True, static=True)
    log_interval: int = setting(
        10, whole(1), "updates between two rows of the log; the first update is logged too.")
    info_keys: Sequence[str] = setting(
        (), entries, "names of numbers in the environments' `info` to record at the end of each episode. They go to "
        "monitor.csv; their means over the last 100 episodes go to the log (info/NAME) and to `update_fn` "
        "(stats.infos). `is_success` is always recorded.")
    monitor_limit: int | None = setting(
        2048, whole(1), "largest number of rows that an update adds to monitor.csv. If more episodes end, every k-th "
        "gets a row, and the file's first line and the log (misc/monitor_share) have the share. Means and counts are "
        "always those of all episodes. None: every episode gets a row.", null=True)
    log: Sequence[str] = setting(
        (), formats, 'formats of the log beside CSV and JSON lines, which `run_dir` always has: "tensorboard", and the '
        'trackers "wandb", "trackio" and "mlflow", which get settings, rows of the log, films and the final score. (): '
        "the formats that the environment variable PPO2_LOG_FORMAT names.")
    log_options: Mapping[str, Any] = setting(
        dict, tracker_options, 'options of trackers: {"wandb": {"project": ..., "entity": ..., "group": ..., "tags": '
        '[...]}, "trackio": {"project": ...}, "mlflow": {"experiment": ..., "tracking_uri": ...}}, or with '
        'names such as "wandb.project". The trackers\' own environment variables count, too.')
    save_interval: int = setting(
        0, whole(0), "updates between two checkpoints, with one after the first update; 0 writes only the final one.")
    eval_interval: int | None = setting(
        None, whole(1), "updates between two evaluations; None: as log_interval.", null=True)
    eval_episodes: int = setting(10, whole(1), "episodes in each evaluation.")
    video_interval: int = setting(
        0, whole(0), "updates between two films of the policy, with one after the first and one after the last update, "
        "in the directory `videos` of `run_dir`; 0 makes none. Another process makes them during training.")
    video_envs: int = setting(
        1, whole(1), "environments in a film, side by side; each plays one episode, and its last picture stays until "
        "all episodes have ended.")
    video_steps: int = setting(1000, whole(1), "largest number of steps of an episode in a film.")
    shards: int = setting(
        1, whole(1), "blocks of environments that are shuffled separately; must divide num_envs. With device "
        "environments, as many devices as divide the blocks share the work. None: one for each process; with device "
        "environments one for each device, if each device gets 32 environments.",
        static=True)
    devices: int | None = setting(
        None, whole(1), "most devices of this machine that device environments use; None: all that JAX has.",
        null=True)
    device: Device = setting(
        "auto", one_of(Device), 'processor to compute on: "cpu", "gpu" or "auto". "auto": for device environments '
        "JAX's default; for host environments the faster one for each part of the work, so that small networks stay on "
        "the CPU of a machine with a GPU. A resumed run computes where it did before.")
    keep: int | None = setting(
        None, whole(1), "number of the last checkpoints to keep. With eval_env, there is also a checkpoint after each "
        "evaluation that is the best so far, and the best one is kept, too. None keeps all.", null=True)
    on_nonfinite: OnNonfinite = setting(
        "raise", one_of(OnNonfinite), "reaction to an observation, action, reward, loss, gradient or optimiser's "
        'step that is NaN or infinite: "raise" an error, or "skip" that update.')
    # fmt: on

    def __post_init__(self) -> None:
        for name, value in check_settings(vars(self)).items():
            object.__setattr__(self, name, value)
        try:
            json.dumps(self.to_json(), allow_nan=False)
        except ValueError:
            raise ValueError(f"`network_kwargs` (={dict(self.network_kwargs)!r}) must be finite.") from None
        if self.eval_env is None and self.eval_env_kwargs:
            given = dict(self.eval_env_kwargs)
            raise ValueError(f"`eval_env_kwargs` (={given!r}) is for `eval_env`, which is None: give both, or neither.")
        self._check_batch()

    def _check_batch(self) -> None:
        if self.num_envs % self.shards:
            raise ValueError(
                f"`shards` (={self.shards}) must divide `num_envs` (={self.num_envs}): each block of environments is "
                "shuffled apart, and all are of one size."
            )
        block = self.nbatch // self.shards
        if block % self.nminibatches:
            near = _divisors_near(self.nminibatches, block)
            blocks = f" / shards (={self.shards})" if self.shards > 1 else ""
            raise ValueError(
                f"`nminibatches` (={self.nminibatches}) must divide `num_envs * nsteps`{blocks} "
                f"(={self.num_envs} * {self.nsteps}{f' / {self.shards}' if blocks else ''} = {block}); "
                f"{' and '.join(map(str, near))} {'do' if len(near) > 1 else 'does'}."
            )
        if 0 < self.total_timesteps < self.nbatch:
            raise ValueError(
                f"`total_timesteps` (={self.total_timesteps}) is less than one batch of `num_envs * nsteps` "
                f"(={self.num_envs} * {self.nsteps} = {self.nbatch}), so that nothing would be learned: raise it, or "
                "lower `nsteps` or `num_envs`."
            )

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))  # network_kwargs has no hash

    @property
    def nbatch(self) -> int:
        """Steps in one rollout, over all environments."""
        return self.num_envs * self.nsteps

    @property
    def nupdates(self) -> int:
        """Updates in the whole of training."""
        return self.total_timesteps // self.nbatch

    def frac(self, update: int) -> float:
        """The remaining fraction of training before an update (counted from 1): the argument of schedules."""
        return 1.0 - (update - 1) / self.nupdates

    @property
    def trace(self) -> tuple[object, ...]:
        """The facts that compiled programs depend on; all other settings reach them as numbers, or not at all."""
        static = [getattr(self, name) for name, info in SETTINGS.items() if info.static]
        return (*static, *(getattr(self, name) is None for name, info in SETTINGS.items() if info.traced and info.null))

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON: see `for_file`."""
        return for_file({name: getattr(self, name) for name in SETTINGS})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Config":
        """The inverse of `to_json`, for settings without placeholders (replace those first)."""
        return cls(**data)


SETTINGS: dict[str, SettingInfo] = {field.name: field.metadata["info"] for field in dataclasses.fields(Config)}


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in their own types, each checked by its own rule.

    Raises:
        ValueError, TypeError: see `Config`.
    """
    return {
        name: None if value is None and SETTINGS[name].null else SETTINGS[name].rule(name, value)
        for name, value in settings.items()
    }


def names(*, traced: Literal["update", "rollout"] | None = None, together: bool = False) -> tuple[str, ...]:
    """The settings that reach compiled programs as numbers.

    Args:
        traced: numbers of an update, or of a rollout; None: both.
        together: only numbers in which runs may differ that train in one program.
    """
    return tuple(
        name
        for name, info in SETTINGS.items()
        if info.traced is not None and traced in (None, info.traced) and not (together and info.apart)
    )


def separate_settings(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings among some arguments, and the others, which are for the network's builder."""
    settings = {name: value for name, value in arguments.items() if name in SETTINGS}
    return settings, {name: value for name, value in arguments.items() if name not in SETTINGS}


def settings_help(indent: str) -> str:
    """The settings and their texts, as the lines of a docstring."""
    texts = (f"{name}: {info.text}" for name, info in SETTINGS.items() if name != "network_kwargs")
    more = indent + " " * 4
    return "\n".join(textwrap.fill(text, 120, initial_indent=indent, subsequent_indent=more) for text in texts)


def _divisors_near(n: int, block: int) -> list[int]:
    """The next divisors of `block` below and above `n`, if they are near enough to look for."""
    far = 10**5
    below = next((d for d in range(min(n, block), max(min(n, block) - far, 0), -1) if block % d == 0), 1)
    above = next((d for d in range(n, min(n + far, block) + 1) if block % d == 0), below if n > block else block)
    return sorted({below, above})

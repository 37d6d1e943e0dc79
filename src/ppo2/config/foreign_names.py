"""Other libraries' names of settings, and what they are called here.

Of Stable-Baselines3, CleanRL, RLlib, RSL-RL, Brax, Tianshou, TorchRL, Spinning Up and PureJaxRL.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from ppo2.config.yaml_text import dumped

Known: TypeAlias = Mapping[str, Any]
"""The other settings of a run, as far as they are known."""
SAME_VALUE = {
    "lr": "learning_rate step_size learning_rate_init policy_lr pi_lr",
    "nsteps": "n_steps num_steps num_steps_per_env n_rollout_steps rollout_length rollout_steps "
    "rollout_fragment_length unroll_length horizon horizon_length step_per_collect",
    "num_envs": "n_envs nenvs num_environments num_env n_env env_num num_parallel_envs num_cpu",
    "nminibatches": "num_minibatches n_minibatches num_mini_batches n_minibatch num_minibatch",
    "noptepochs": "n_epochs update_epochs num_epochs num_sgd_iter num_learning_epochs num_updates_per_batch "
    "repeat_per_collect ppo_epochs ppo_epoch k_epochs K_epochs epochs train_pi_iters",
    "lam": "gae_lambda lambda lambda_ gae_lam lmbda",
    "gamma": "discount discounting discount_factor",
    "cliprange": "clip_range clip_coef clip_param clip_eps clip_epsilon clip_ratio clipping_epsilon eps_clip "
    "epsilon_clip ratio_clip cliprange_policy",
    "value_cliprange": "clip_range_vf value_clip cliprange_value cliprange_vf",
    "vf_coef": "value_coef vf_coeff critic_coef value_coeff critic_loss_coeff",
    "ent_coef": "entropy_coef entropy_coeff entropy_cost entropy_loss_scale ent_coeff entropy_bonus",
    "max_grad_norm": "grad_clip grad_norm_clip max_gradient_norm gradient_clip max_norm grad_norm",
    "target_kl": "kl_threshold",
    "total_timesteps": "total_steps n_timesteps num_timesteps timesteps max_timesteps total_env_steps num_env_steps "
    "max_env_steps",
    "normalize_obs": "normalize_observations norm_obs obs_norm normalize_observation",
    "normalize_rewards": "normalize_reward norm_reward rew_norm reward_norm norm_rewards",
    "eval_episodes": "n_eval_episodes num_eval_episodes",
    "env": "env_id env_name gym_id environment env_key",
    "load_path": "checkpoint checkpoint_path restore resume_from load_model",
    "run_dir": "logdir log_dir save_dir save_path output_dir log_path exp_dir",
    "progress": "progress_bar",
    "update_fn": "callback_fn",
    "callbacks": "callback",
    "network": "net_type model_type arch",
    "num_hidden": "hidden_size hidden_dim num_units hidden",
    "num_layers": "n_layers hidden_layers num_hidden_layers",
    "activation": "activation_fn act_fn nonlinearity",
    "keep": "keep_checkpoints_num max_checkpoints",
}
"""Our names, and others for the same thing, in the same units."""
POLICIES = {
    "MlpPolicy": "mlp",
    "CnnPolicy": "cnn",
    "MultiInputPolicy": "mlp",
    "MlpLstmPolicy": "lstm",
    "CnnLstmPolicy": "cnn_lstm",
    "MultiInputLstmPolicy": "lstm",
    "ActorCriticPolicy": "mlp",
    "ActorCriticCnnPolicy": "cnn",
}
"""Stable-Baselines3's policies, and the networks that are like them."""


class Foreign(NamedTuple):
    """The same in this library: settings, of which the first is the counterpart, and a remark."""

    settings: Mapping[str, Any]
    remark: str = ""

    def words(self, style: str) -> str:
        """A sentence about it; `style`: of "python", "option" or "file"."""
        forms: dict[str, Callable[[str, Any], str]] = {"python": _python, "option": _option, "file": _in_file}
        given = " ".join if style == "option" else ", ".join
        listed = given(forms[style](name, value) for name, value in self.settings.items())
        called = next(iter(self.settings), "")
        name = f"--{called.replace('_', '-')}" if style == "option" else f"`{called}`"
        name = "--env.NAME" if style == "option" and called == "env_kwargs" else name
        said = f"it is called {name} here: {listed}" if self.settings else ""
        if style == "option" and called == "env":
            said = f"it is given without a name: {listed}"
        return "; ".join(filter(None, [said, self.remark])) + "."


def counterpart(name: str, value: Any, known: Known) -> Foreign | None:
    """The counterpart here of a setting of another library, and its value; None for a name that none has."""
    same = next((ours for ours, others in SAME_VALUE.items() if name in others.split()), None)
    if same is not None:
        return Foreign({same: value})
    converted = CONVERTED.get(name)
    return None if converted is None else converted(value, known)


def explained(given: Mapping[str, Any], known: Known) -> dict[str, Foreign]:
    """The counterparts of those names among `given` that are another library's.

    Args:
        known: settings of the run, for values that depend on them; those that `given` has by other names go before.
    """
    settings = dict(known)
    for name, value in given.items():
        same = counterpart(name, value, {})
        if same is not None and name not in CONVERTED:
            settings |= same.settings
    found = {name: counterpart(name, value, settings) for name, value in given.items()}
    return {name: foreign for name, foreign in found.items() if foreign is not None}


def _minibatches(value: Any, known: Known) -> Foreign:
    """Samples in a minibatch as a number of minibatches, which must divide the batch."""
    envs, steps = known.get("num_envs"), known.get("nsteps")
    batch = envs * steps if isinstance(envs, int) and isinstance(steps, int) else 0
    if not batch or not isinstance(value, int) or not 0 < value <= batch:
        return Foreign({"nminibatches": "..."}, "the number of minibatches, num_envs * nsteps / their size")
    count = min((n for n in range(1, batch + 1) if batch % n == 0), key=lambda n: abs(batch / n - value))
    size = "" if batch // count == value else f", the nearest that divides the batch: of {batch // count:,} each"
    return Foreign({"nminibatches": count}, f"the batch of num_envs * nsteps (={envs} * {steps} = {batch:,}){size}")


def _whole_batch(value: Any, known: Known) -> Foreign:
    envs = known.get("num_envs")
    fits = isinstance(envs, int) and isinstance(value, int) and envs > 0
    return Foreign({"nsteps": max(1, value // envs) if fits else "..."}, "the batch is num_envs * nsteps")


def _steps_between(ours: str) -> Callable[[Any, Known], Foreign]:
    def convert(value: Any, known: Known) -> Foreign:
        steps = known.get("nsteps")
        fits = isinstance(steps, int) and isinstance(value, int) and steps > 0
        # Stable-Baselines3 counts calls of `step`, of all environments at once
        return Foreign({ours: max(1, value // steps) if fits else "..."}, "in updates, of nsteps steps each")

    return convert


def _policy(value: Any, _: Known) -> Foreign:
    text = value if isinstance(value, str) else getattr(value, "__name__", "")
    remark = "parts that are images have networks of their own (`encoders`)" if text.startswith("Multi") else ""
    return Foreign({"network": POLICIES.get(text, "...")}, remark)


def _policy_kwargs(value: Any, known: Known) -> Foreign:
    found: dict[str, Any] = {}
    if isinstance(value, Mapping):
        sizes = value.get("net_arch")
        found |= _layers(sizes.get("pi") if isinstance(sizes, Mapping) else sizes, known).settings if sizes else {}
        if "activation_fn" in value:
            act = value["activation_fn"]
            found["activation"] = (act if isinstance(act, str) else getattr(act, "__name__", "...")).lower()
    return Foreign(found or {"num_layers": "..."}, "the network's arguments are given by themselves")


def _layers(value: Any, _: Known) -> Foreign:
    sizes = list(value) if isinstance(value, list | tuple) and all(isinstance(one, int) for one in value) else []
    if not sizes:
        return Foreign({"num_layers": "...", "num_hidden": "..."})
    remark = "" if len(set(sizes)) == 1 else "layers of mlp are all of one size"
    return Foreign({"num_layers": len(sizes), "num_hidden": sizes[0]}, remark)


def _value_clip(value: Any, _: Known) -> Foreign:
    return Foreign({"value_cliprange": "same" if value in (True, 1) else None})


def _annealed(value: Any, known: Known) -> Foreign:
    lr = known.get("lr", 3e-4)
    if value in (False, 0):
        return Foreign({"lr": lr}, "a number stays as it is")
    number = lr if isinstance(lr, int | float) else str(lr).rpartition(":")[2]
    return Foreign({"lr": f"linear:{number:g}" if isinstance(number, int | float) else f"linear:{number}"})


def _without_half(value: Any, _: Known) -> Foreign:
    """The weight of a value loss that has no factor 1/2, as RSL-RL's and RLlib's."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Foreign({"vf_coef": 2.0 * value if is_number else "..."}, "twice the value: the value loss here has 1/2")


def _wanted_kl(value: Any, _: Known) -> Foreign:
    return Foreign({"target_kl": value}, "it ends an update early, and adapts neither a rate nor a penalty")


def _normalised(value: Any, _: Known) -> Foreign:
    if value in (False, 0):
        return Foreign({}, "advantages are normalised in each minibatch; a model of your own (`model_fn`) changes that")
    return Foreign({}, "advantages are always normalised in each minibatch: leave it out")


def _device(value: Any, _: Known) -> Foreign:
    return Foreign({"device": "auto" if value in (True, 1) else "cpu"})


def _logged(log: str) -> Callable[[Any, Known], Foreign]:
    return lambda value, _: Foreign({"log": log}) if value else Foreign({}, "without `log` there is none: leave it out")


def _fixed(*remark: str, **settings: Any) -> Callable[[Any, Known], Foreign]:
    return lambda *_: Foreign(settings, *remark)


CONVERTED: dict[str, Callable[[Any, Known], Foreign]] = {
    **dict.fromkeys(
        ("batch_size", "minibatch_size", "mini_batch_size", "sgd_minibatch_size", "batch_size_per_update"), _minibatches
    ),
    "train_batch_size": _whole_batch,
    "train_batch_size_per_learner": _whole_batch,
    "steps_per_epoch": _whole_batch,
    "eval_freq": _steps_between("eval_interval"),
    "save_freq": _steps_between("save_interval"),
    "checkpoint_freq": _fixed("in updates", save_interval="..."),
    "checkpoint_frequency": _fixed("in updates", save_interval="..."),
    "policy": _policy,
    "policy_class": _policy,
    "policy_kwargs": _policy_kwargs,
    **dict.fromkeys(("net_arch", "hidden_sizes", "fcnet_hiddens", "hidden_dims", "layer_sizes"), _layers),
    "clip_vloss": _value_clip,
    "use_clipped_value_loss": _value_clip,
    **dict.fromkeys(("value_loss_coef", "vf_loss_coeff"), _without_half),
    **dict.fromkeys(("desired_kl", "kl_target"), _wanted_kl),
    "vf_clip_param": _fixed(
        "RLlib cuts the squared error at it: leave it out; here `value_cliprange` limits how far the value may move"
    ),
    "anneal_lr": _annealed,
    **dict.fromkeys(("normalize_advantage", "norm_adv", "normalize_advantages", "norm_advantages"), _normalised),
    "cuda": _device,
    "use_cuda": _device,
    "use_sde": _fixed("exploration that depends on the state isn't here: leave it out"),
    "sde_sample_freq": _fixed("exploration that depends on the state isn't here: leave it out"),
    "tensorboard_log": _logged("tensorboard"),
    "track": _logged("wandb"),
    "use_wandb": _logged("wandb"),
    "capture_video": lambda value, _: Foreign({"video_interval": "..." if value else 0}, "in updates"),
    "reward_scaling": lambda value, _: Foreign({"env_kwargs": {"reward_scale": value}}),
    "max_episode_steps": lambda value, _: Foreign({"env_kwargs": {"max_episode_steps": value}}),
    "frame_stack": lambda value, _: Foreign({"env_kwargs": {"frame_stack": value}}),
    "value_network_share": _fixed(value_network="shared"),
    "vf_share_layers": lambda value, _: Foreign({"value_network": "shared" if value in (True, 1) else "copy"}),
    "max_iterations": _fixed("in timesteps", total_timesteps="..."),
    "num_updates": _fixed("in timesteps", total_timesteps="..."),
}
"""Names of what is given in other units here, or isn't there."""


def _python(name: str, value: Any) -> str:
    return f"{name}=..." if value == "..." else f"{name}={value!r}"


def _in_file(name: str, value: Any) -> str:
    return f"`{name}: ...`" if value == "..." else f"`{name}: {dumped(value)}`"


def _option(name: str, value: Any) -> str:
    if name == "env_kwargs" and isinstance(value, Mapping):
        return " ".join(f"--env.{key.replace('_', '-')} {one}" for key, one in value.items())
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return str(value) if name == "env" else f"--{flag} {value}"

"""`doctor`: checks of an installation, or of an environment, before a run."""

import functools
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym

from ppo2 import envs
from ppo2.diagnosis.examiner import ProcessExaminer, ThreadExaminer, examined
from ppo2.diagnosis.findings import Diagnosis, Finding
from ppo2.diagnosis.installation import installation
from ppo2.diagnosis.subject import Copies, Own, Subject, kind_of, packed
from ppo2.envs import adapters
from ppo2.envs.device.env import is_device_env
from ppo2.envs.families.arguments import fitting
from ppo2.envs.families.factories import Options
from ppo2.envs.families.foreign import hint
from ppo2.envs.families.ids import ENVPOOL, check_id, import_named, spec_of
from ppo2.envs.families.keywords import SHADOWING, name_of
from ppo2.envs.host.vec_env import as_gymnasium
from ppo2.system import runtime
from ppo2.system.text import as_options


def doctor(
    env: Any = None,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    seconds: float = 20.0,
    env_timeout: float = 10.0,
    seed: int = 0,
    on_finding: Callable[[Finding], None] | None = None,
) -> Diagnosis:
    """Checks the installation, or an environment, without training anything.

    An environment is checked in a process of its own, so that one that hangs or crashes is a finding too; where it
    can't travel there, in a thread of this one.

    Args:
        env: in any form that `learn` takes; None checks the installation.
        env_kwargs: arguments of the environment's constructor; `max_episode_steps` too.
        seconds: about how long the checks of an environment may take; a program that must be compiled comes on top.
        env_timeout: seconds that a call of the environment may take beyond that before it counts as hanging.
        seed: seed of random actions and of the environment.
        on_finding: called with each finding as soon as there is one.

    Returns:
        The findings, and settings to begin with; `print` shows them as `ppo2 doctor` does.

    Raises:
        ValueError, TypeError: `env` is none of the forms, or an argument is out of range.
    """
    given: dict[str, Any] = {"seconds": seconds, "env_timeout": env_timeout}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"`{name}` (={value!r}) must be a number of seconds above 0.")
    began = time.monotonic()
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        again = next((one.check for one in findings if one.status == finding.status and one.words == finding.words), "")
        if finding.status == "fault" and again and again != finding.check:
            finding = Finding(finding.check, "skipped", f"stopped by the same fault as {again!r}")
        findings.append(finding)
        if on_finding is not None:
            on_finding(finding)

    if env is None:
        if env_kwargs:
            raise ValueError(f"`env_kwargs` (={dict(env_kwargs)!r}) are for an environment, and `env` is None.")
        for finding in installation():
            note(finding)
        return Diagnosis("the installation", findings, None, time.monotonic() - began)
    how = {"seconds": float(seconds), "timeout": float(env_timeout), "seed": int(seed)}
    subject = subject_of(env, dict(env_kwargs or {}), how)
    proposal = examined(subject, _examiner(subject), note)
    return Diagnosis(subject.name, findings, proposal, time.monotonic() - began)


def _examiner(subject: Subject) -> ProcessExaminer | ThreadExaminer:
    """A process where the environment can travel, and where JAX's devices aren't taken by this one."""
    if sys.platform == "win32" or subject.is_one or (subject.kind == "device" and runtime.has_started()):
        return ThreadExaminer(subject)
    try:
        packed(subject)
    except Exception:  # of whatever is asked to travel
        return ThreadExaminer(subject)
    return ProcessExaminer(subject)


def subject_of(env: Any, kwargs: dict[str, Any], how: dict[str, Any]) -> Subject:
    """The subject of the checks, from `env` in any form; nothing is made."""
    env = as_gymnasium(class_in_a_module(env) if isinstance(env, str) else env)
    if isinstance(env, str):
        return _of_id(env, kwargs, how)
    preset = dict(envs.FAMILIES[-1].settings)
    if isinstance(env, gym.Env | gym.vector.VectorEnv) or is_device_env(env):
        if kwargs:
            raise ValueError(f"`env_kwargs` (={kwargs!r}) are for what makes environments; `env` exists already.")
        spec = getattr(env, "spec", None)
        name = getattr(spec, "id", None) or type(getattr(env, "unwrapped", env)).__name__
        threshold = getattr(spec, "reward_threshold", None)
        try:
            make: Callable[[], Any] = Copies(env)
            is_one = False
        except Exception:  # of whatever is asked to be copied
            make, is_one = functools.partial(_itself, env), True
        if name in gym.registry:
            family = envs.family_of(name)
            preset, how = family.preset(name), {**how, "family": family.name, "source": family.source}
        kind = kind_of(env)
        exists = kind != "device"
        return Subject(name, kind, make, preset, is_one, exists, threshold=threshold, **how)
    if not callable(env):
        raise TypeError(
            f"`env` (={env!r}) must be an id, an environment of Gymnasium or a vector of them, a device environment, "
            f"or a function or class that makes one.{hint(env)}"
        )
    options, own = _separated(kwargs)
    own = fitting(env, own, "env")
    name = name_of(env)
    return Subject(name, "own", Own(env, own, options), preset, env=name, kwargs=kwargs, **how)


def _of_id(env_id: str, kwargs: dict[str, Any], how: dict[str, Any]) -> Subject:
    """The subject that an id names."""
    check_id(env_id)
    family = envs.family_of(env_id)
    preset = family.preset(env_id)  # not `ppo2.preset`, which may make the environment, and here
    how |= {"family": family.name, "source": family.source, "command": env_id + as_options(kwargs)}
    how |= {"env": repr(env_id), "kwargs": kwargs}
    if adapters.adapter_of(env_id) is not None:
        return Subject(env_id, "device", functools.partial(adapters.make, env_id, **kwargs), preset, **how)
    if env_id.startswith(ENVPOOL) or kwargs.get("own_vector"):
        made = functools.partial(envs.make, env_id, num_envs=preset["num_envs"], **kwargs)
        return Subject(env_id, "vector", made, preset, **how)
    spec, (options, own) = spec_of(env_id), _separated(kwargs)
    factory = family.factory(spec, fitting(env_id, own, "env"), options)
    return Subject(env_id, "host", factory, preset, threshold=spec.reward_threshold, **how)


def _separated(kwargs: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """Options of `ppo2.make` for any environment, and arguments of its constructor; not how several are stepped."""
    mine = {name: value for name, value in kwargs.items() if name in vars(Options())}
    inner = kwargs.get("env_kwargs") or {}
    own = {name: value for name, value in kwargs.items() if name not in {*SHADOWING, "env_kwargs"}}
    return Options(**mine), {**own, **inner}


def class_in_a_module(env_id: str) -> Any:
    """The class or function that "module:Name" names, where no environment is registered by this name."""
    module, _, name = env_id.rpartition(":")
    if not module or name in gym.registry or adapters.adapter_of(env_id) is not None or env_id.startswith(ENVPOOL):
        return env_id
    try:
        found = getattr(import_named(module, env_id), name, None)
    except ModuleNotFoundError:  # which the look-up of the id will tell of
        return env_id
    return found if callable(found) and name not in gym.registry else env_id


def _itself(env: Any) -> Any:
    return env

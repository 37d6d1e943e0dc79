"""Errors for observations and rewards of an evaluation that are NaN or infinite."""


class NotFiniteError(ValueError):
    """An observation or a reward is NaN or infinite."""


def not_finite_obs(part: str, env: int, count: int) -> NotFiniteError:
    """The error for an observation; `part` names the part of a Dict or Tuple, `count` the step of the evaluation."""
    where = f" in its part {part}" if part else ""
    return NotFiniteError(
        f"an observation is NaN or infinite{where}; environment {env} gave it at step {count} of the evaluation: fix "
        "the environment."
    )


def not_finite_reward(env: int, count: int) -> NotFiniteError:
    """The error for a reward at a step of the evaluation."""
    return NotFiniteError(
        f"a reward is NaN or infinite; environment {env} gave it at step {count} of the evaluation: fix the "
        "environment."
    )

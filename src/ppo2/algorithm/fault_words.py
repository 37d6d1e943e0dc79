"""What is wrong with an update that can't be made, in words."""

from ppo2 import spaces
from ppo2.algorithm.train_state import FaultKind


def fault_words(kind: FaultKind, step: int, num_envs: int, observation_space: spaces.AnySpace) -> str:
    """What was wrong, and how to mend it; `step` is the flat (T, N) index of the step to blame."""
    t, env = divmod(step, num_envs)
    where = f"environment {env} gave it at step {t} of the rollout"
    return {
        FaultKind.STATE_NOT_FINITE: "the parameters, the optimiser's moments or the normaliser's statistics were NaN "
        "or infinite before it, which learning doesn't make them: look into `model_fn` and `update_fn`, or load an "
        "earlier checkpoint",
        FaultKind.ACTION_NOT_FINITE: "an action is NaN or infinite, though what was observed is not, so that the "
        f"policy's network overflows; environment {env} was to take it at step {t} of the rollout: try a lower `lr`, "
        "or `normalize_obs=True`",
        FaultKind.OBS_NOT_FINITE: f"an observation is NaN or infinite; {where}: mend the environment",
        FaultKind.OBS_OUT_OF_RANGE: f"an observation is out of range for {observation_space}; {where}: mend its "
        "observation_space, or what it returns",
        FaultKind.REWARD_NOT_FINITE: f"a reward is NaN or infinite; {where}: mend the environment",
        FaultKind.NO_LEGAL_ACTION: f"a state has no legal action (its action_mask is all 0); {where}: mend the "
        "environment, or end the episode there",
        FaultKind.LOSS_OR_GRADIENT_NOT_FINITE: "the loss or its gradient is NaN or infinite; try a lower `lr`, "
        "`normalize_obs=True`, or a smaller `max_grad_norm`",
        FaultKind.STEP_NOT_FINITE: "the gradient is finite, but parameters or moments are NaN or infinite after the "
        "optimiser's step; try a lower `lr`, or a `max_grad_norm`",
        FaultKind.STATISTICS_NOT_FINITE: "observations or rewards are finite, but too large for their statistics "
        "to be; scale them down in the environment (`reward_scale` of ppo2.make does, for rewards)",
    }[kind]

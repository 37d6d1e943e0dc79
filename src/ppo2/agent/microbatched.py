"""A model for minibatches that don't fit in memory."""

from collections.abc import Hashable

from jaxtyping import PRNGKeyArray

from ppo2.agent.model import Model
from ppo2.agent.policy import Policy
from ppo2.config import Config


class MicrobatchedModel(Model):
    """A model that makes each minibatch's gradient in pieces, for minibatches that don't fit in memory at once.

    The result is the full minibatch's, to float tolerance.

    Args:
        microbatch_size: samples in a piece; must divide the minibatch. Of several devices, each of which has its part
            of the minibatch, the most in a piece.

    Raises:
        ValueError: it doesn't.
    """

    def __init__(self, *, policy: Policy, config: Config, key: PRNGKeyArray, microbatch_size: int) -> None:
        minibatch = config.nbatch // config.nminibatches
        if microbatch_size < 1 or minibatch % microbatch_size:
            raise ValueError(
                f"`microbatch_size` (={microbatch_size}) must divide the minibatch of `num_envs * nsteps / "
                f"nminibatches` (={config.num_envs} * {config.nsteps} / {config.nminibatches} = {minibatch})."
            )
        super().__init__(policy=policy, config=config, key=key)
        length = config.nsteps // self.sequences_per_env(config.nsteps, config.num_envs)
        if self.is_recurrent and microbatch_size % length:
            raise ValueError(
                f"`microbatch_size` (={microbatch_size}) must hold whole sequences of this recurrent policy, which are "
                f"{length} steps long: make it a multiple."
            )
        self.microbatch_size = microbatch_size

    def piece_size(self, size: int, length: int | None = None) -> int:
        # of several devices each has a part of the minibatch
        most = min(size, self.microbatch_size // (length or 1))
        return next(piece for piece in range(most, 0, -1) if size % piece == 0)

    def trace_identity(self) -> Hashable | None:
        identity = self.identity_as(MicrobatchedModel)
        return None if identity is None else (identity, self.microbatch_size)

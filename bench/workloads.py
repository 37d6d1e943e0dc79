"""Training tasks of the comparisons: each workload the same for everyone who runs it."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """One training task. It reaches the measured programs as JSON, so that they need nothing of ours.

    Attributes:
        network: "mlp", where policy and value have a network each; "cnn" (Nature's), which they share; or "lstm", a
            memory (long short-term memory) between the observation and the heads, with no other layer.
        hidden: units in each hidden layer of an mlp; of an lstm, the memory's own, as the one number.
        value_network: an lstm's: "shared", one memory for policy and value, or "copy", one each.
        activation: function of an mlp's layers; host environments and rejax are measured with tanh alone.
        normalize: observations and rewards by running statistics.
        value_cliprange: clip range of the value, as the peer has it: none in Stable-Baselines3, always one in rejax.
        log_interval: updates between two rows of our log, which tell where the time went; on device environments also
            between two looks at a peer.
    """

    name: str
    env: str
    num_envs: int
    nsteps: int
    noptepochs: int
    nminibatches: int
    lr: float = 2.5e-4
    gamma: float = 0.99
    lam: float = 0.95
    cliprange: float = 0.2
    value_cliprange: float | None = None
    vf_coef: float = 0.5
    ent_coef: float = 0.01
    max_grad_norm: float = 0.5
    network: str = "mlp"
    value_network: str = "copy"
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    normalize: bool = False
    log_interval: int = 10

    @property
    def title(self) -> str:
        normalised = ", obs and rewards normalised" if self.normalize else ""
        memory = {"shared": ", one memory", "copy": ", a memory each for policy and value"}[self.value_network]
        return (
            f"{self.name} {self.env}, {self.num_envs} x {self.nsteps}, {self.noptepochs} epochs, "
            f"{self.nminibatches} minibatches{normalised}{memory if self.network == 'lstm' else ''}"
        )

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


STEPPED = (
    *(("CartPole-v1", 8), ("CartPole-v1", 64), ("Pendulum-v1", 8), ("LunarLander-v3", 8), ("HalfCheetah-v5", 8)),
    *(("MiniGrid-Empty-5x5-v0", 8), ("BreakoutNoFrameskip-v4", 8)),
)
"""Environments, and how many, that are stepped without any policy."""

W3 = Workload(
    name="W3",
    env="HalfCheetah-v5",
    num_envs=1,
    nsteps=2048,
    noptepochs=10,
    nminibatches=32,
    lr=3e-4,
    ent_coef=0.0,
    normalize=True,
    log_interval=1,
)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(name="W1", env="CartPole-v1", num_envs=8, nsteps=128, noptepochs=4, nminibatches=4),
        Workload(name="W1b", env="CartPole-v1", num_envs=1, nsteps=2048, noptepochs=4, nminibatches=4, log_interval=2),
        W3,
        dataclasses.replace(W3, name="W3b", num_envs=8, nsteps=256),
        Workload(
            name="W4",
            env="BreakoutNoFrameskip-v4",
            num_envs=8,
            nsteps=128,
            noptepochs=4,
            nminibatches=4,
            cliprange=0.1,
            network="cnn",
            log_interval=1,
        ),
    )
}

R1 = Workload(
    name="R1",
    env="partly:CartPolePositions-v1",  # see bench/peers/partly.py
    num_envs=8,
    nsteps=128,
    noptepochs=4,
    nminibatches=4,
    network="lstm",
    value_network="shared",
    hidden=(128,),
)

RECURRENT_WORKLOADS = {
    workload.name: workload for workload in (R1, dataclasses.replace(R1, name="R1b", value_network="copy"))
}

LOOK_STEPS = 2**17  # a third to half a second at 250,000 to 400,000 steps per second


def on_device(name: str, num_envs: int) -> Workload:
    """CartPole in JAX, side by side as often as wanted."""
    return Workload(
        name=name,
        env="gymnax:CartPole-v1",
        num_envs=num_envs,
        nsteps=128,
        noptepochs=4,
        nminibatches=4,
        value_cliprange=0.2,
        log_interval=max(1, LOOK_STEPS // (num_envs * 128)),
    )


DEVICE_WORKLOADS = {workload.name: workload for workload in (on_device("D1", 8), on_device("D2", 1024))}

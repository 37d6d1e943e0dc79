"""Times a network in PyTorch in a process of its own, with the heads, the loss and the optimiser of PPO."""

from typing import Any

from steady import Job, Result, answer, seconds_of

ACTIONS = 6


def model(job: Job) -> Any:
    import torch
    from torch import nn

    if job["threads"] is not None:
        torch.set_num_threads(job["threads"])
    trunk, features = {"cnn": nature, "impala_cnn": impala}[job["network"]]()
    return nn.Sequential(*trunk, nn.Linear(features, ACTIONS + 1))


def nature() -> tuple[list[Any], int]:
    """The network of Mnih et al. 2015, and the number of its features."""
    from torch import nn

    layers = [nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 1), nn.ReLU()]
    return [*layers, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU()], 512


def impala() -> tuple[list[Any], int]:
    """The network of Espeholt et al. 2018 without its LSTM, and the number of its features."""
    import torch
    from torch import nn

    class Residual(nn.Module):  # type: ignore[misc] # PyTorch is not installed here
        def __init__(self, filters: int) -> None:
            super().__init__()
            self.first, self.second = (nn.Conv2d(filters, filters, 3, padding=1) for _ in range(2))

        def forward(self, x: Any) -> Any:
            return x + self.second(torch.relu(self.first(torch.relu(x))))

    layers: list[Any] = []
    channels, size = 4, 84
    for filters in (16, 32, 32):
        # as ours: an even number of rows has nothing above it, one row below
        pool = nn.MaxPool2d(3, 2, padding=size % 2, ceil_mode=True)
        layers += [nn.Conv2d(channels, filters, 3, padding=1), pool, Residual(filters), Residual(filters)]
        channels, size = filters, (size + 1) // 2
    return [*layers, nn.ReLU(), nn.Flatten(), nn.Linear(size * size * channels, 256), nn.ReLU()], 256


def images(batch: int) -> Any:
    import torch

    return torch.randint(0, 256, (batch, 4, 84, 84), dtype=torch.uint8)


def act(job: Job) -> Result:
    """Seconds from observations to sampled actions in NumPy."""
    import torch

    mine, obs = model(job), images(job["batch"]).numpy()

    def call() -> None:
        with torch.no_grad():
            logits = mine(torch.as_tensor(obs).float() / 255)[:, :ACTIONS]
            torch.distributions.Categorical(logits=logits, validate_args=False).sample().numpy()

    return seconds_of(call, job["seconds"])


def step(job: Job) -> Result:
    """Seconds for a gradient step: forward, PPO's loss, backward, clipping and Adam."""
    import torch

    batch = job["batch"]
    mine, obs = model(job), images(batch)
    actions, old = torch.randint(0, ACTIONS, (batch,)), torch.full((batch,), -1.8)
    advantages, returns = torch.randn(batch), torch.randn(batch)
    optimiser = torch.optim.Adam(mine.parameters(), lr=1e-4, eps=1e-5)

    def call() -> None:
        out = mine(obs.float() / 255)
        ratio = torch.exp(out[:, :ACTIONS].log_softmax(1).gather(1, actions[:, None])[:, 0] - old)
        gain = torch.minimum(ratio * advantages, ratio.clamp(0.9, 1.1) * advantages)
        loss = -gain.mean() + 0.5 * ((out[:, ACTIONS] - returns) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(mine.parameters(), 0.5)
        optimiser.step()

    return seconds_of(call, job["seconds"])


if __name__ == "__main__":
    answer({"act": act, "step": step})

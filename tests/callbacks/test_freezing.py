"""Frozen parameters stay bit for bit, with Adam's moments, while the others learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.agent.freezing import fits
from ppo2.callbacks import Freeze
from ppo2.checkpoints.tensors import to_tensors
from support.device_envs import Count
from support.environments import Script
from support.runs import SMALL, learn, params

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def train(**more: Any) -> ppo2.Model:
    settings = {name: value for name, value in SMALL.items() if name != "num_hidden"}
    return ppo2.learn(**{**settings, **more})


def arrays(model: ppo2.Model) -> dict[str, Any]:
    return to_tensors(model.state, model.unravel)


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    names = [name for name in before if name.startswith(("params/", "adam/mu", "adam/nu"))]
    return {name for name in names if before[name].tobytes() != after[name].tobytes()}


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hidden": 8},
        {"network": "lstm", "nlstm": 4, "nminibatches": 2, "target_kl": 1.0},
        {"env": Count(), "num_hidden": 8, "value_network": "copy"},
    ],
    ids=["mlp", "lstm", "device"],
)
@pytest.mark.exact
def test_only_the_others_learn(settings: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    trained = train(**settings)  # so that there are moments
    start = arrays(trained)
    trained.save(tmp_path / "start.safetensors")
    more = {**settings, "load_path": tmp_path / "start.safetensors", "total_timesteps": 3 * 64}
    kept = train(callbacks=[Freeze("trunk", "value_head/bias")], **more)
    frozen = {name for name in start if "/trunk/" in name or name.endswith("value_head/bias")}
    assert frozen
    everything = {name for name in start if name.startswith(("params/", "adam/mu", "adam/nu"))}
    assert changed(start, arrays(kept)) == everything - frozen
    assert "frozen    trunk/" in capsys.readouterr().out

    run = {**more, "run_dir": tmp_path / "run"}
    train(callbacks=[Freeze("trunk", "value_head/bias")], **run, update_fn=lambda update: update < 2)
    resumed = train(callbacks=[Freeze("trunk", "value_head/bias")], **run | {"load_path": tmp_path / "run"})
    np.testing.assert_array_equal(params(resumed), params(kept))


class OwnLoss(ppo2.Model):
    """A model whose programs are its own."""

    def loss(self, *arguments: Any) -> Any:
        return super().loss(*arguments)


@pytest.mark.parametrize("settings", [{}, {"model_fn": OwnLoss}], ids=["usual", "own loss"])
def test_frozen_until_an_update(settings: dict[str, Any]) -> None:
    untrained = arrays(learn(total_timesteps=0, **settings))
    two = learn(callbacks=[Freeze("trunk", until=2)], update_fn=lambda update: update < 2, **settings)
    assert not any("/trunk/" in name for name in changed(untrained, arrays(two)))
    four = learn(callbacks=[Freeze("trunk", until=2)], **settings)
    assert any("/trunk/" in name for name in changed(untrained, arrays(four)))
    assert four.frozen == ()


def test_two_that_freeze_the_same() -> None:
    """The one that ends leaves the other's as they are; together they may not freeze all."""
    both = learn(callbacks=[Freeze("trunk", until=1), Freeze("trunk")])
    untrained = arrays(learn(total_timesteps=0))
    assert not any("/trunk/" in name for name in changed(untrained, arrays(both)))
    with pytest.raises(ValueError, match="fit all parameters together"):
        learn(callbacks=[Freeze("trunk"), Freeze("*_head")])


def test_parts_of_encoders_by_their_folder() -> None:
    assert fits("encoder*", "trunk/encoders/camera/dense/weight")
    assert fits("encoders/camera", "trunk/encoders/camera/dense/weight")
    assert fits("*bias", "trunk/layers/0/bias")
    assert not fits("encoder", "trunk/encoders/camera/dense/weight")
    assert not fits("trunk", "value_trunk/layers/0/bias")


def test_mistakes_are_named_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parameter of this model is named 'body'; it has trunk/layers/0/weight, "):
        learn(callbacks=[Freeze("body")])
    with pytest.raises(ValueError, match="fits all parameters"):
        learn(callbacks=[Freeze("*")])
    with pytest.raises(TypeError, match="must be names of parameters"):
        Freeze()

    class Own(ppo2.Model):
        def update(self, *arguments: Any) -> Any:
            return super().update(*arguments)

    with pytest.raises(ValueError, match="this Own replaces `update`"):
        learn(callbacks=[Freeze("trunk")], model_fn=Own)
    settings: dict[str, Any] = {"run_dir": tmp_path, "env": Script}
    learn(callbacks=[Freeze("trunk")], **settings, update_fn=lambda update: False)
    with pytest.raises(ValueError, match="give the same"):
        learn(callbacks=[Freeze("action_head")], **settings, load_path=tmp_path)

"""`ppo2.export` and `ppo2 export`: from a run to files that other programs act with."""

import json
import re
import shutil
import subprocess
import sys

import gymnasium as gym
import jax
import numpy as np
import pytest

import ppo2
from ppo2.cli import main
from ppo2.deployment import export as exporting
from ppo2.deployment import npz_file
from ppo2.deployment.comparison import DifferentError
from ppo2.deployment.policy_function import joined
from support.device_cartpole import CartPole
from support.policies import CASES, untrained
from support.runs import SMALL

pytestmark = pytest.mark.usefixtures("all_quickly_compiled")

FORMATS = {"onnx": "policy.onnx", "stablehlo": "policy.stablehlo", "numpy": "policy.npz"}


def need_onnx():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a recurrent policy on CartPole, with a normaliser."""
    path = tmp_path_factory.mktemp("export") / "run"
    settings = {**SMALL, "network": "lstm", "nlstm": 8, "normalize_obs": True, "run_dir": path}
    del settings["num_hidden"]
    ppo2.learn(**settings)
    return path


@pytest.fixture(scope="module")
def written(run):
    """The run's files, and what was said of them."""
    need_onnx()
    folder = run.parent
    return ppo2.export(run, **{name: folder / file for name, file in FORMATS.items()})


def test_files_are_checked_on_random_and_recorded_observations(written):
    assert [file.format for file in written] == ["onnx", "stablehlo", "numpy"]
    for file in written:
        assert file.random.observations == 33
        assert file.recorded is not None
        assert 4 * 20 < file.recorded.observations <= 4 * 32  # steps that only reset are left out
        assert 0 < file.random.difference < 1e-5
        assert file.recorded.difference < 1e-5
        assert list(file.inputs) == ["obs", "state.policy.c", "state.policy.h", "episode_starts"]
        assert list(file.outputs)[:3] == ["action", "value", "logits"]


def test_an_episode_in_onnxruntime_is_that_of_predict(run, written):
    import onnxruntime

    session = onnxruntime.InferenceSession(written[0].path)
    model = ppo2.load(run)
    assert {one.name: (one.type, one.shape) for one in session.get_inputs()} == {
        "obs": ("tensor(float)", ["batch", 4]),
        "state.policy.c": ("tensor(float)", ["batch", 8]),
        "state.policy.h": ("tensor(float)", ["batch", 8]),
        "episode_starts": ("tensor(bool)", ["batch"]),
    }
    env = ppo2.make("CartPole-v1", num_envs=3, seed=1)
    obs, _ = env.reset(seed=1)
    state, starts = None, np.ones(3, bool)
    carried = {
        f"state.policy.{part}": np.full((3, 8), 9, np.float32) for part in "ch"
    }  # anything, where episodes begin
    for _ in range(10):
        actions, state = model.predict(obs, state, None if state is None else starts)
        outputs = dict(
            zip(
                [one.name for one in session.get_outputs()],
                session.run(None, {"obs": obs, **carried, "episode_starts": starts}),
                strict=True,
            )
        )
        np.testing.assert_array_equal(outputs["action"], actions)
        carried = {f"state.policy.{part}": outputs[f"next_state.policy.{part}"] for part in "ch"}
        obs, _, terminated, truncated, _ = env.step(actions)
        starts = terminated | truncated
        obs = obs.copy()
    env.close()


def test_the_file_says_what_it_is(written):
    import onnx

    metadata = {one.key: one.value for one in onnx.load(written[0].path).metadata_props}
    assert metadata["ppo2"] == ppo2.__version__
    assert metadata["env"] == "CartPole-v1"
    assert json.loads(metadata["action_space"])["kind"] == "Discrete"


ALONE = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import numpy as np
inputs = {{"obs": np.full((5, 4), 0.1, np.float32), "episode_starts": np.ones(5, bool)}}
inputs |= {{f"state.policy.{{part}}": np.zeros((5, 8), np.float32) for part in "ch"}}
{lines}
print(outputs["action"].tolist(), outputs["value"].tolist())
"""
NUMPY = """
from npz_policy import Policy
outputs = Policy("policy.npz")(inputs)
"""
STABLEHLO = """
from pathlib import Path
from jax import export
outputs = export.deserialize(bytearray(Path("policy.stablehlo").read_bytes())).call(inputs)
"""


@pytest.mark.parametrize(
    ("refused", "lines"),
    [({"ppo2", "jax", "jaxlib", "onnx", "onnxruntime"}, NUMPY), ({"ppo2", "equinox", "gymnasium", "optax"}, STABLEHLO)],
    ids=["numpy", "stablehlo"],
)
def test_a_file_loads_without_this_library(refused, lines, run, written, tmp_path):
    for name in ("policy.npz", "npz_policy.py", "policy.stablehlo"):
        shutil.copy(run.parent / name, tmp_path)
    code = ALONE.format(refused=refused, lines=lines)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = ppo2.load(run)
    obs = np.full((5, 4), 0.1, np.float32)
    actions, values = (json.loads(part + "]") for part in done.stdout.strip()[:-1].split("] "))
    assert actions == model.predict(obs)[0].tolist()
    np.testing.assert_allclose(values, model.value(obs), atol=1e-5)


def test_the_reader_is_short():
    lines = npz_file.READER.read_text().splitlines()
    assert len(lines) < 150
    assert not any("ppo2" in line and "import" in line for line in lines)


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    model = untrained()
    before = model.act_count, np.array(model.state.params)
    ppo2.export(model, numpy=tmp_path / "policy.npz")
    assert model.act_count == before[0]
    np.testing.assert_array_equal(model.state.params, before[1])


def test_a_model_without_an_environment_is_checked_on_random_observations_alone(tmp_path):
    (file,) = ppo2.export(untrained(), numpy=tmp_path / "policy.npz")
    assert file.recorded is None
    assert "pass `env`" in file.unrecorded


def test_a_device_environment_is_recorded(tmp_path):
    (file,) = ppo2.export(untrained(CartPole().observation_space), numpy=tmp_path / "policy.npz", env=CartPole())
    assert file.recorded is not None
    assert file.recorded.observations == 4 * 32


@pytest.mark.parametrize("case", ["masked lstm", "gaussian", "cnn_small"])
def test_all_formats_of_other_policies(case, tmp_path):
    need_onnx()
    given = CASES[case] | ({"normalize_obs": False} if case == "gaussian" else {})
    ppo2.export(untrained(**given), **{name: tmp_path / file for name, file in FORMATS.items()})


def test_a_policy_that_differs_is_not_written(tmp_path, monkeypatch):
    right = npz_file.npz_bytes

    def wrong(graph, metadata):
        name = next(name for name, array in graph.constants.items() if array.ndim == 2)
        graph.constants[name] = graph.constants[name] * 1.01
        return right(graph, metadata)

    monkeypatch.setattr(npz_file, "npz_bytes", wrong)
    with pytest.raises(DifferentError, match=r"on random observations the output '.*' differs by up to .* Nothing was"):
        ppo2.export(untrained(), stablehlo=tmp_path / "policy.stablehlo", numpy=tmp_path / "policy.npz")
    assert not list(tmp_path.iterdir())  # of the file that is right, too


def test_arguments_that_can_not_be(tmp_path, monkeypatch):
    model = untrained()
    with pytest.raises(ValueError, match="nothing to export"):
        ppo2.export(model)
    with pytest.raises(ValueError, match="is a folder"):
        ppo2.export(model, numpy=tmp_path)
    with pytest.raises(ValueError, match="one file twice"):
        ppo2.export(model, numpy=tmp_path / "x", stablehlo=tmp_path / "x")
    with pytest.raises(ValueError, match="another observation space"):
        ppo2.export(model, numpy=tmp_path / "x", env="MountainCar-v0")
    monkeypatch.setattr(exporting.onnx_file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"`onnx` needs onnx and onnxruntime: pip install 'ppo2\[onnx\]'"):
        ppo2.export(tmp_path / "absent", onnx=tmp_path / "x")


def test_the_command(run, capsys):
    need_onnx()
    path = run.parent / "by_command.onnx"
    assert main(["export", str(run), "--onnx", str(path)]) == 0
    out = capsys.readouterr().out
    assert re.match(rf"wrote {re.escape(str(path))} \([\d,]+ bytes\)\n", out)
    assert re.search(
        r"acts as the model on 33 random and \d+ recorded observations; outputs differ by \d\.\de-\d+ at most", out
    )
    assert "inputs   obs float32[batch, 4]" in out
    assert "outputs  action int64[batch]" in out
    assert path.is_file()
    assert main(["export", str(run)]) == 1
    assert "--onnx" in capsys.readouterr().err


def test_nothing_of_the_environment_is_needed_but_said(run, tmp_path, monkeypatch):
    def fails(*_):
        raise ValueError("no such thing\nhere")

    monkeypatch.setattr(exporting, "record", fails)
    (file,) = ppo2.export(run, numpy=tmp_path / "policy.npz")
    assert (file.recorded, file.unrecorded) == (None, "CartPole-v1 gave no observations (no such thing)")


def test_the_environment_has_the_runs_arguments(tmp_path):
    settings = {**SMALL, "env": "FrozenLake-v1", "env_kwargs": {"map_name": "8x8"}, "run_dir": tmp_path / "run"}
    ppo2.learn(**settings)
    (file,) = ppo2.export(tmp_path / "run", numpy=tmp_path / "policy.npz")
    assert file.recorded is not None
    path = str(tmp_path / "again.npz")
    assert main(["export", str(tmp_path / "run"), "--numpy", path, "--env.is-slippery", "false"]) == 0
    assert main(["export", str(tmp_path / "run"), "--numpy", path, "--env.is-slippy", "false"]) == 2


def test_observations_that_32_bits_do_not_hold_are_no_stablehlo(tmp_path):
    model = untrained(**CASES["gaussian"])  # whose made-up statistics have an origin
    ppo2.export(model, numpy=tmp_path / "policy.npz")
    with pytest.raises(ValueError, match="`stablehlo`: the observations are so far from 0"):
        ppo2.export(model, stablehlo=tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_enable_x64", True), ("jax_numpy_rank_promotion", "raise"), ("jax_transfer_guard", "disallow")],
)
def test_whatever_jax_is_set_to(name, value, tmp_path):
    model, before = untrained(**CASES["gaussian"]), jax.config.values[name]
    jax.config.update(name, value)
    try:
        ppo2.export(model, numpy=tmp_path / "policy.npz")
    finally:
        jax.config.update(name, before)


def test_keys_with_dots_have_names_of_their_own(tmp_path):
    """Each input goes where it belongs, which the comparison shows; actions have names like those, too."""
    box, two = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    parts = gym.spaces.Dict({"a.b": box, "a": gym.spaces.Dict({"b": gym.spaces.Box(-1, 1, (3,))})})
    actions = gym.spaces.Dict({"a.b": two, "a": gym.spaces.Dict({"b": gym.spaces.Discrete(3)})})
    model = untrained(observation_space=parts, action_space=actions)
    (file,) = ppo2.export(model, numpy=tmp_path / "p.npz")
    assert {name: of.shape for name, of in file.inputs.items()} == {"obs.a.b": (3,), "obs.a..b": (2,)}
    assert {*file.outputs} == {"action.a.b", "action.a..b", "value", "logits.a.b", "logits.a..b"}
    assert joined("obs", [("a.b",), ("c", "d")]) == ["obs.a.b", "obs.c.d"]  # none is like another
    with pytest.raises(ValueError, match=r"two parts of `obs` would have the name 'obs\.a\.\.b' in the file"):
        joined("obs", [("a.b",), ("a", "", "b"), ("a", "b")])

"""Placement, where models act and learn: the rule, what goes before it, and that arrays are there and nowhere else."""

import copy
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest

import ppo2
from ppo2 import plot
from ppo2.agent import compiled, placement
from ppo2.agent.placement import UNPLACED, Placement, asked_place, choose, place_to_begin
from ppo2.agent.policy import build_policy
from ppo2.algorithm.train_state import TrainState, UpdateStats
from ppo2.checkpoints import checkpoint
from ppo2.evaluation.evaluate import placed_for
from ppo2.numerics.compilation import chosen_place, computing_on, devices_in_use, place_of, platform, user_has_chosen
from ppo2.numerics.randomness import root_key
from ppo2.runners import acting
from support.device_envs import Unending
from support.jobs import call_on_two_devices
from support.places import fake_card, no_card

pytestmark = pytest.mark.usefixtures("quickly_compiled", "no_curve")

ON_CPU, ON_GPU, SPLIT = Placement("cpu", "cpu"), Placement("gpu", "gpu"), Placement("cpu", "gpu")


def model_of(network: str = "mlp", **settings: Any) -> ppo2.Model:
    space = gym.spaces.Box(-1.0, 1.0, (4,))
    policy = build_policy(space, gym.spaces.Discrete(2), network=network, key=root_key(0))  # type: ignore[arg-type]
    return ppo2.Model(policy=policy, config=ppo2.Config(network=network, **settings), key=root_key(0))


# --- the rule


def test_operations_of_a_policy() -> None:
    # 2 for each weight, and a few for biases and activations
    products = 2 * (4 * 64 + 64 * 64 + 64 * 2 + 64 * 1)
    assert products <= placement.operations(model_of()) <= 1.05 * products
    recurrent = placement.operations(model_of(network="lstm"))
    assert recurrent > 2 * 4 * 128 * 128


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_envs": 8, "nsteps": 128}, ON_CPU),  # 3 x 9.2e3 x 256 = 7e6 a gradient step
        ({"num_envs": 512, "nsteps": 128}, SPLIT),  # 3 x 9.2e3 x 16,384 = 4.5e8; 4.7e6 a call
        ({"num_envs": 8192, "nsteps": 128}, ON_GPU),  # 7.5e7 a call
    ],
)
def test_small_work_is_the_cpus(settings: dict[str, int], expected: Placement, monkeypatch: Any) -> None:
    fake_card(monkeypatch)
    model = model_of(**settings)
    assert choose(model, "auto", num_envs=settings["num_envs"]) == expected
    assert choose(model, "gpu", num_envs=8) == UNPLACED  # everything as JAX does by default
    assert choose(model, "cpu", num_envs=8) == ON_CPU
    assert choose(model, "auto", num_envs=8, on_device=True) == Placement("cpu", None)


def test_images_go_to_the_card(monkeypatch: Any) -> None:
    fake_card(monkeypatch)
    monkeypatch.setattr(placement, "operations", lambda model: 1.9e7)  # Nature's CNN
    assert choose(model_of(nsteps=128), "auto", num_envs=8) == ON_GPU


def test_without_a_card_nothing_is_placed(monkeypatch: Any) -> None:
    no_card(monkeypatch)
    model = model_of()
    assert choose(model, "auto", num_envs=8) == choose(model, "cpu", num_envs=8) == UNPLACED
    assert choose(model, "auto", num_envs=8, saved=ON_CPU._asdict()) == UNPLACED
    assert place_to_begin("auto", on_device=False) is None
    assert placement.described(UNPLACED) == ""


def test_what_a_user_has_set_goes_before_the_rule(monkeypatch: Any) -> None:
    card, _ = fake_card(monkeypatch)
    with jax.default_device(card):
        assert user_has_chosen()
        assert place_to_begin("auto", on_device=False) is None
        assert choose(model_of(), "auto", num_envs=8) == UNPLACED
        assert choose(model_of(), "cpu", num_envs=8) == ON_CPU
    with computing_on(place_of("cpu")):
        assert not user_has_chosen()


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ({"act": "cpu", "learn": "gpu"}, SPLIT),
        ({"act": "gpu", "learn": "gpu"}, ON_GPU),
        ({"act": "tpu", "learn": "tpu"}, ON_CPU),  # not here: the rule
        ({"act": "abacus", "learn": None}, ON_CPU),  # no such thing
        ({"act": ["cpu"], "learn": {}}, ON_CPU),
        ("cpu", ON_CPU),
        (None, ON_CPU),
    ],
)
def test_a_run_goes_on_where_it_was(saved: Any, expected: Placement, monkeypatch: Any) -> None:
    fake_card(monkeypatch)
    assert choose(model_of(nsteps=128), "auto", num_envs=8, saved=saved) == expected


def test_words(monkeypatch: Any) -> None:
    no_card(monkeypatch)
    assert placement.changed(SPLIT._asdict(), UNPLACED) == (
        "this run acted on the CPU and learned on the GPU, and now acts and learns on the CPU: its last bits may differ"
    )
    assert placement.changed(ON_CPU._asdict(), UNPLACED) == placement.changed(None, UNPLACED) == ""
    fake_card(monkeypatch)
    assert placement.described(ON_CPU) == "device    acts and learns on the CPU"
    assert placement.described(SPLIT).startswith("device    acts on the CPU and learns on the GPU (")
    assert UNPLACED.saved() == ON_GPU._asdict()


def test_evaluating_acts_where_the_rule_says_unless_the_model_was_to_learn_on_the_card(monkeypatch: Any) -> None:
    fake_card(monkeypatch)
    env: Any = SimpleNamespace(num_envs=8)
    assert placed_for(model_of(), env, "auto").placement == Placement("cpu", None)
    on_card = model_of(device="gpu")
    assert placed_for(on_card, env, "auto") is on_card
    assert placed_for(on_card, env, "cpu").placement == ON_CPU


# --- errors


def test_no_such_device(monkeypatch: Any) -> None:
    no_card(monkeypatch)
    with pytest.raises(ValueError, match=r"^`device` \(='cuda'\) must be 'auto' or 'cpu' or 'gpu'\.$"):
        asked_place("cuda")
    words = r"^`device` \(='gpu'\): JAX has no GPU here, only .*docs/gpu\.md says how .*'auto' takes what there is\.$"
    with pytest.raises(ValueError, match=words):
        asked_place("gpu")


@pytest.mark.parametrize("verb", ["learn", "sweep", "load", "evaluate"])
def test_it_is_said_before_any_work(verb: str, tmp_path: Path, monkeypatch: Any) -> None:
    no_card(monkeypatch)

    def no_env() -> Any:
        raise AssertionError("an environment was made")

    calls: dict[str, Any] = {
        "learn": lambda: ppo2.learn(env=no_env, device="gpu", run_dir=tmp_path / "run"),
        "sweep": lambda: ppo2.sweep(env=no_env, device="gpu", run_dir=tmp_path / "run"),
        "load": lambda: ppo2.load(tmp_path / "absent", device="gpu"),
        "evaluate": lambda: ppo2.evaluate(model_of(), no_env, device="gpu"),
    }
    with pytest.raises(ValueError, match="JAX has no GPU here"):
        calls[verb]()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"`device` .* can't be swept over"):
        ppo2.sweep(env=no_env, device=["cpu", "gpu"])


# --- contexts


def test_a_place_is_for_its_thread_and_its_block(monkeypatch: Any) -> None:
    fake_card(monkeypatch)
    assert platform() == "gpu"
    seen: list[Any] = []
    with computing_on(place_of("cpu")):
        assert platform() == "cpu"
        assert devices_in_use() == list(place_of("cpu").devices)  # type: ignore[union-attr]
        thread = threading.Thread(target=lambda: seen.append((platform(), chosen_place())))
        thread.start()
        thread.join()
        with computing_on(None), computing_on(place_of("gpu")):
            assert platform() == "gpu"
        with pytest.raises(KeyError), computing_on(place_of("gpu")):
            raise KeyError
        assert platform() == "cpu"
    assert seen == [("gpu", None)]
    assert chosen_place() is None
    assert jax.config.values["jax_default_device"] is None


def test_each_place_has_programs_of_its_own(monkeypatch: Any) -> None:
    fake_card(monkeypatch)
    model, made = model_of(), []

    def make(_: ppo2.Model) -> str:
        made.append(platform())
        return platform()

    for kind in ("cpu", "gpu", "cpu"):
        with computing_on(place_of(kind)):
            assert compiled.program(model, make) == kind
    assert made == ["cpu", "gpu"]


# --- the arrays, where CPU and card are two devices


class Quick(ppo2.Model):
    """Learns from a rollout in a step that is quickly compiled."""

    def update(self, state: TrainState, rollout: Any, hyper: Any, axis: Any = None) -> tuple[TrainState, UpdateStats]:  # type: ignore[override]
        return state._replace(params=state.params * (1.0 + 0.1 * rollout.values.mean())), UpdateStats.blank()

    def trace_identity(self) -> Any:
        return self.identity_as(Quick)


SMALL: dict[str, Any] = {
    "num_envs": 4, "nsteps": 8, "num_hidden": 8, "num_layers": 1, "model_fn": Quick, "seed": 1, "progress": False,
}  # fmt: skip
HOST: dict[str, Any] = {**SMALL, "env": "CartPole-v1", "normalize_obs": True}


class Watch:
    """Work of a process with a card that isn't there, for the tests below."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.facts = folder, dict[str, Any]()
        self.card, self.cpu = fake_card(pytest.MonkeyPatch())
        assert self.card != self.cpu
        self.acted_on: set[str] = set()
        of_host = acting.act_program

        def act_program(model: ppo2.Model) -> Any:
            act = of_host(model)

            def watched(*arguments: Any) -> Any:
                found = act(*arguments)
                for x in jax.tree.leaves((arguments, found)):
                    self.acted_on |= self.where(x)
                return found

            return watched

        acting.act_program = act_program  # type: ignore[assignment]
        acting.choose = lambda *_, **__: acting.XLA  # NumPy, which acts for small models, has no device

    def where(self, tree: Any) -> set[str]:
        arrays = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
        return {"card" if device == self.card else "cpu" for x in arrays for device in x.devices()}

    def note(self, name: str, work: Any) -> Any:
        before = {id(x) for x in jax.live_arrays() if self.card in x.devices()}
        self.acted_on = set()
        with jax.default_device(None):
            found = work()
        model = found.models[0] if isinstance(found, ppo2.Sweep) else found
        new = [x for x in jax.live_arrays() if self.card in x.devices() and id(x) not in before]
        self.facts[name] = {
            "placement": model.placement,
            "state": sorted(self.where(model.state)),
            "acted": sorted(self.acted_on),
            "card": len(new),
            "params": np.asarray(model.state.params).tolist(),
        }
        return found


def watch_all(folder: Path) -> None:
    """For the process below."""
    jax.config.update("jax_disable_most_optimizations", True)
    plot.curve = lambda *_: None  # type: ignore[assignment]
    watch, steps = Watch(folder), 32
    host_run = {**HOST, "total_timesteps": 2 * steps}
    watch.note("auto", lambda: ppo2.learn(**host_run, eval_env="CartPole-v1", log_interval=1, eval_episodes=2))
    watch.note("cpu", lambda: ppo2.learn(**host_run, device="cpu"))
    model = watch.note("gpu", lambda: ppo2.learn(**host_run, device="gpu"))
    watch.note("evaluated", lambda: (ppo2.evaluate(model, "CartPole-v1", episodes=2, device="cpu"), model)[1])
    watch.note("sweep", lambda: ppo2.sweep(**host_run, device="cpu"))
    device_run = {**SMALL, "env": Unending(), "total_timesteps": 2 * steps}
    watch.note("device", lambda: ppo2.learn(**device_run, device="cpu"))
    watch.note("device sweep", lambda: ppo2.sweep(**device_run, device="cpu"))
    usual, placement.MOST_TO_LEARN = placement.MOST_TO_LEARN, 0.0
    run, whole = folder / "run", {**HOST, "save_interval": 1, "total_timesteps": 4 * steps}
    watch.note("split", lambda: ppo2.learn(**whole))
    watch.note("stopped", lambda: ppo2.learn(**whole, run_dir=run, update_fn=lambda update: update < 2))
    placement.MOST_TO_LEARN = usual
    model = watch.note("resumed", lambda: ppo2.learn(**whole, run_dir=run, load_path=run))
    watch.note("loaded", lambda: ppo2.load(run, model_fn=Quick))
    twin = copy.deepcopy(model)
    threads = [threading.Thread(target=one.predict, args=(np.zeros(4, np.float32),)) for one in (model, twin)]
    for thread in threads:
        thread.start()
        thread.join()
    watch.facts["threads"] = [sorted(watch.where(one.acting_state())) for one in (model, twin)]
    (folder / "facts.json").write_text(json.dumps(watch.facts))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("places")
    call_on_two_devices(__file__, "watch_all", folder)
    return json.loads((folder / "facts.json").read_text()), folder


@pytest.mark.parametrize("name", ["auto", "cpu", "sweep", "device", "device sweep"])
def test_small_work_leaves_the_card_alone(name: str, watched: Any) -> None:
    found = watched[0][name]
    assert found["state"] == ["cpu"]
    assert found["card"] == 0
    assert set(found["acted"]) <= {"cpu"}
    assert found["placement"] == ["cpu", "cpu"]


def test_on_the_card_alone(watched: Any) -> None:
    found = watched[0]["gpu"]
    assert (found["state"], found["acted"]) == (["card"], ["card"])
    np.testing.assert_allclose(found["params"], watched[0]["cpu"]["params"], atol=1e-5)
    assert watched[0]["evaluated"]["state"] == ["card"]  # evaluating elsewhere moves nothing


def test_acting_on_the_cpu_with_what_the_card_learns(watched: Any) -> None:
    found = watched[0]["split"]
    assert found["placement"] == ["cpu", "gpu"]
    assert (found["state"], found["acted"]) == (["card"], ["cpu"])  # no array crosses in a step
    assert watched[0]["threads"] == [["cpu"], ["cpu"]]


def test_a_resumed_run_does_the_same_though_the_rule_has_changed(watched: Any) -> None:
    facts, folder = watched
    for name in ("stopped", "resumed", "loaded"):
        assert facts[name]["placement"] == ["cpu", "gpu"], name
    assert facts["resumed"]["params"] == facts["split"]["params"]
    settings = json.loads((folder / "run" / "config.json").read_text())
    assert settings["placement"] == {"act": "cpu", "learn": "gpu"}
    assert settings["device"] == "auto"


def test_a_run_goes_on_without_its_card(watched: Any, capsys: Any, monkeypatch: Any) -> None:
    no_card(monkeypatch)
    _, folder = watched
    run = folder / "run"
    assert ppo2.load(run, model_fn=Quick).placement == UNPLACED
    settings = {**HOST, "save_interval": 1, "total_timesteps": 5 * 32}
    trained = ppo2.learn(**{**settings, "progress": None}, run_dir=run, load_path=run)
    assert trained.placement == UNPLACED
    said = "".join(capsys.readouterr())
    assert "this run acted on the CPU and learned on the GPU, and now acts and learns on the CPU" in said
    assert checkpoint.load(run).metadata["placement"] == {"act": "cpu", "learn": "cpu"}

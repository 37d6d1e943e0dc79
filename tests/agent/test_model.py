"""The model: acting, the update, microbatches, saving."""

import copy
from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2.agent.compiled import program
from ppo2.agent.files import restore
from ppo2.agent.microbatched import MicrobatchedModel
from ppo2.agent.model import Model
from ppo2.agent.model_programs import train_program
from ppo2.agent.policy import build_policy
from ppo2.algorithm.faults import FaultKind
from ppo2.algorithm.losses import Stats
from ppo2.algorithm.rollout import Rollout
from ppo2.algorithm.update import batch_of
from ppo2.config import Config
from ppo2.networks import registry
from ppo2.numerics.compilation import platform
from ppo2.numerics.randomness import root_key
from ppo2.numerics.sharding import ONE_DEVICE
from ppo2.runners.host import Runner
from ppo2.system import runtime
from support.environments import Spaced, vector

pytestmark = pytest.mark.usefixtures("quickly_compiled")

OBS = gym.spaces.Box(-1.0, 1.0, (3,))


def make(
    kind: Any = Model, action_space: Any = None, obs_space: Any = OBS, policy: Any = None, **settings: Any
) -> Model:
    config = Config(**{"num_envs": 4, "nsteps": 16, "network_kwargs": {"num_hidden": 8}, **settings})
    policy = policy or build_policy(
        obs_space,
        action_space or gym.spaces.Discrete(3),
        network="mlp",
        network_kwargs=config.network_kwargs,
        value_network="copy",
        key=root_key(3),
    )
    return kind(policy=policy, config=config, key=root_key(3))


def rollout_for(model: Model, length: int = 5) -> Rollout:
    config = model.config
    env = vector(
        *[lambda: Spaced(model.observation_space, model.action_space, length)] * config.num_envs,
        mode=AutoresetMode.SAME_STEP,
    )
    rollout = Runner(env=env, model=model, nsteps=config.nsteps, gamma=config.gamma, lam=config.lam).run()
    # random rewards: with equal ones there is nothing to learn
    rewards = jax.random.normal(jax.random.key(0), rollout.rewards.shape)
    return rollout._replace(rewards=rewards)


def params(model: Model) -> np.ndarray[Any, Any]:
    return np.array(model.state.params)


def train(model: Model, rollout: Rollout, **more: Any) -> Any:
    return model.train(rollout, **{"lr": 1e-2, "cliprange": 0.2, **more})


# --- acting


def test_step_is_as_in_baselines() -> None:
    model = make(action_space=gym.spaces.Discrete(3, start=5))
    obs = np.zeros((7, 3), np.float32)
    actions, values, states, neglogpacs = model.step(obs)
    assert actions.shape == values.shape == neglogpacs.shape == (7,)
    assert isinstance(actions, np.ndarray)
    assert isinstance(values, np.ndarray)
    assert actions.dtype == np.int64
    assert set(actions) <= {5, 6, 7}
    assert states is None
    np.testing.assert_allclose(neglogpacs, np.log(3), atol=0.05)  # head gain 0.01: nearly uniform
    assert model.initial_state(7) is None
    np.testing.assert_array_equal(model.value(obs), values)


def test_one_observation_or_a_batch() -> None:
    model = make()
    one, many = np.zeros(3, np.float32), np.zeros((2, 3), np.float32)
    assert model.predict(one)[0].shape == ()
    assert model.predict(many)[0].shape == (2,)
    assert model.value(one).shape == ()
    assert model.step(one)[0].shape == ()
    assert model.predict(one)[1] is None


def test_predict_is_deterministic_and_samples_when_asked() -> None:
    model = make()
    obs = np.zeros((200, 3), np.float32)
    assert len(set(model.predict(obs)[0].tolist())) == 1
    assert len(set(model.predict(obs, deterministic=False)[0].tolist())) == 3


def test_step_never_changes_training() -> None:
    """Acting draws from a stream of its own."""
    quiet, busy = make(), make()
    busy.step(np.zeros((5, 3), np.float32))
    train(quiet, rollout_for(quiet))
    train(busy, rollout_for(busy))
    np.testing.assert_array_equal(params(quiet), params(busy))


def test_box_actions_keep_to_their_bounds() -> None:
    space = gym.spaces.Box(-0.01, 0.01, (2,), np.float64)
    actions, _, _, neglogp = make(action_space=space).step(np.zeros((50, 3), np.float32))
    assert actions.dtype == np.float64
    assert np.abs(actions).max() <= 0.01
    assert np.ptp(neglogp) > 0.1  # of the sample before the clip


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros((2, 4), np.float32), r"shape \(2, 4\)"),
        (np.array(["a", "b", "c"]), "dtype"),
        (np.zeros(3, complex), "dtype"),
    ],
)
def test_observations_of_another_space_are_refused(obs: Any, message: str) -> None:
    for call in (make().step, make().predict, make().value):
        with pytest.raises(ValueError, match=message):
            call(obs)


def test_out_of_range_observations_are_refused_and_castable_ones_cast() -> None:
    model = make(obs_space=gym.spaces.Discrete(4, start=2))
    assert model.predict(np.array([2, 5], np.uint8))[0].shape == (2,)
    for bad in (1, 6):
        with pytest.raises(ValueError, match=rf"holds {bad}.*out of range"):
            model.predict(np.array([bad]))
    with pytest.raises(ValueError, match="dtype float64"):
        model.predict(np.array([2.0]))
    assert make().predict(np.zeros(3, np.float64))[0].shape == ()


def test_a_state_for_a_policy_without_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="no state"):
        make().step(np.zeros((1, 3), np.float32), S=np.zeros(4))


# --- learning


def test_an_update_by_hand() -> None:
    """One epoch, one minibatch: Adam's first step moves every parameter by lr * g / (|g| + eps)."""
    model = make(noptepochs=1, nminibatches=1, max_grad_norm=None, value_cliprange=None)
    rollout = rollout_for(model)
    before = params(model)
    whole = batch_of(rollout, model.advantages(model.state.normaliser, rollout))
    hyper = model.hyperparameters(lr=1e-2, cliprange=0.2)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), whole)
    advantages = np.asarray(flat.advantages)
    flat = flat._replace(advantages=jnp.asarray((advantages - advantages.mean()) / (advantages.std() + 1e-8)))
    gradient, stats = model.gradients(model.state.params, model.state.normaliser, flat, hyper)
    expected = before - 1e-2 * np.asarray(gradient) / (np.abs(np.asarray(gradient)) + 1e-5)
    told = train(model, rollout)
    np.testing.assert_allclose(params(model), expected, atol=2e-5)
    assert float(told.approxkl) == pytest.approx(0.0, abs=1e-10)  # before its step, the policy is the one that acted
    assert float(told.clipfrac) == 0.0
    assert float(told.value_loss) == pytest.approx(float(stats.value_loss), rel=1e-5)
    assert int(told.gradient_steps) == 1


def test_the_gradient_is_clipped_by_its_global_norm() -> None:
    """Adam hides the clip in its steps, which hardly depend on the gradient's scale; the moments show it."""
    model = make(noptepochs=1, nminibatches=1, max_grad_norm=1e-3)
    told = train(model, rollout_for(model))
    assert float(told.grad_norm) > 1e-3  # as it was before the clip
    assert np.linalg.norm(np.asarray(model.state.opt_state.mu)) == pytest.approx(0.1 * 1e-3, rel=1e-4)  # (1 - b1) g


def test_microbatches_equal_the_full_minibatch() -> None:
    whole = make()
    pieces = make(lambda **kw: MicrobatchedModel(**kw, microbatch_size=4))
    rollout = rollout_for(whole)
    told = [train(model, rollout) for model in (whole, pieces)]
    np.testing.assert_allclose(params(whole), params(pieces), atol=2e-5)
    for name in Stats._fields:
        assert float(getattr(told[0], name)) == pytest.approx(float(getattr(told[1], name)), rel=1e-3, abs=1e-5)


def test_microbatches_with_steps_that_are_no_experience() -> None:
    whole = make()
    pieces = make(lambda **kw: MicrobatchedModel(**kw, microbatch_size=2))
    rollout = rollout_for(whole)
    rollout = rollout._replace(valid=jax.random.bernoulli(jax.random.key(1), 0.6, rollout.valid.shape))
    train(whole, rollout)
    train(pieces, rollout)
    np.testing.assert_allclose(params(whole), params(pieces), atol=2e-5)


def test_microbatch_size_must_divide() -> None:
    with pytest.raises(ValueError, match=r"`microbatch_size` \(=5\) must divide .* = 16\)"):
        make(lambda **kw: MicrobatchedModel(**kw, microbatch_size=5))


def test_invalid_steps_weigh_nothing() -> None:
    """Whatever stands in steps that were no experience, the update is the same."""
    results = []
    for garbage in (0.0, 1e6):
        model = make(normalize_obs=True, normalize_rewards=False)
        rollout = rollout_for(model)
        valid = rollout.valid.at[3:5, 1].set(False)
        ended = rollout.truncated.at[2, 1].set(True)
        rollout = rollout._replace(
            valid=valid,
            truncated=ended,
            rewards=rollout.rewards.at[3:5, 1].set(garbage),
            obs=rollout.obs.at[3:5, 1].set(garbage),
            values=rollout.values.at[3:5, 1].set(garbage),
        )
        told = train(model, rollout)
        assert int(told.fault) == FaultKind.NONE
        results.append((params(model), np.asarray(model.state.normaliser.obs.mean), float(told.explained_variance)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1])
    assert results[0][2] == pytest.approx(results[1][2])


def test_target_kl_skips_the_rest_of_an_update() -> None:
    free, bound = make(noptepochs=10), make(noptepochs=10, target_kl=1e-4)
    told_free, told_bound = (train(m, rollout_for(m), lr=3e-2) for m in (free, bound))
    assert int(told_free.gradient_steps) == 40
    assert 1 <= int(told_bound.gradient_steps) < 40
    assert np.abs(params(bound) - params(free)).max() > 0
    # a bound that is never reached changes nothing
    loose = make(noptepochs=10, target_kl=1e6)
    train(loose, rollout_for(loose), lr=3e-2)
    np.testing.assert_array_equal(params(loose), params(free))


def test_shards_do_not_change_what_is_learned_from() -> None:
    one, two = make(shards=1, noptepochs=1, nminibatches=1), make(shards=2, noptepochs=1, nminibatches=1)
    rollout = rollout_for(one)
    train(one, rollout)
    train(two, rollout)
    np.testing.assert_allclose(params(one), params(two), atol=1e-5)  # one minibatch: the order alone differs


OF_THE_PROGRAM = [  # each compiles one
    {"max_grad_norm": None},
    {"nminibatches": 2},
    {"noptepochs": 2},
    {"shards": 2},
    {"value_cliprange": None},
    {"target_kl": 1e-6},
    {"bootstrap_truncated": False},
    {"normalize_rewards": True},
]
OTHERS = [{"ent_coef": 0.1}, {"vf_coef": 0.9}, {"max_grad_norm": 0.01}, {"value_cliprange": 0.001}]


@pytest.mark.parametrize(
    "change",
    [*OTHERS, {"normalize_obs": True}, *(pytest.param(change, marks=pytest.mark.slow) for change in OF_THE_PROGRAM)],
    ids=lambda change: "-".join(f"{k}={v}" for k, v in change.items()),
)
def test_every_setting_of_an_update_changes_something(change: dict[str, Any]) -> None:
    usual, changed = make(), make(**change)
    rollout = rollout_for(usual)
    rollout = rollout._replace(truncated=rollout.terminated, terminated=jnp.zeros_like(rollout.terminated))
    for model in (usual, changed):
        train(model, rollout)
        train(model, rollout)
    assert not np.array_equal(params(usual), params(changed))


@pytest.mark.parametrize("change", [{"lr": 2e-2}, {"cliprange": 0.001}])
def test_every_argument_of_train_changes_something(change: dict[str, Any]) -> None:
    usual, changed = make(), make()
    rollout = rollout_for(usual)
    train(usual, rollout)
    train(changed, rollout, **change)
    assert not np.array_equal(params(usual), params(changed))


def test_gamma_and_lambda_come_with_the_rollout() -> None:
    results = []
    for gamma, lam in ((0.99, 0.95), (0.5, 0.95), (0.99, 0.5)):
        model = make()
        train(model, rollout_for(model)._replace(gamma=jnp.float32(gamma), lam=jnp.float32(lam)))
        results.append(params(model))
    assert not np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize(
    ("field", "fault"), [("obs", FaultKind.OBS_NOT_FINITE), ("rewards", FaultKind.REWARD_NOT_FINITE)]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_leave_the_state_alone(field: str, fault: FaultKind, bad: float) -> None:
    model = make(normalize_obs=True, normalize_rewards=True)
    rollout = rollout_for(model)
    before = jax.tree.map(np.array, model.state._replace(key=jax.random.key_data(model.state.key)))
    told = train(model, rollout._replace(**{field: getattr(rollout, field).at[2, 3].set(bad)}))
    assert int(told.fault) == fault
    assert divmod(int(told.fault_index), 4) == (2, 3)
    after = model.state._replace(key=jax.random.key_data(model.state.key))
    for old, new in zip(jax.tree.leaves(before[:4]), jax.tree.leaves(after[:4]), strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
    assert int(after.counters.skipped_updates) == 1
    assert int(train(model, rollout).fault) == FaultKind.NONE


def test_the_state_before_an_update_stays() -> None:
    """Training keeps it until it knows that the update has no fault, and so may others."""
    model = make()
    before, rollout = model.state, rollout_for(model)
    assert int(train(model, rollout).fault) == FaultKind.NONE
    assert int(before.counters.updates) == 0
    assert int(model.state.counters.updates) == 1
    assert np.any(np.asarray(before.params) != np.asarray(model.state.params))


def test_memory_is_kept_from_an_update_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr(runtime, "updated", lambda: calls.append(None))
    model = make()
    train(model, rollout_for(model))
    assert len(calls) == 1


def test_a_loss_that_is_not_finite_is_a_fault() -> None:
    model = make()
    rollout = rollout_for(model)
    before = params(model)
    told = train(model, rollout._replace(values=rollout.values.at[0, 0].set(np.nan)))
    assert int(told.fault) == FaultKind.LOSS_OR_GRADIENT_NOT_FINITE
    np.testing.assert_array_equal(params(model), before)


def test_parameters_that_are_not_finite_are_reported_rather_than_their_consequences() -> None:
    model = make(action_space=gym.spaces.Box(-1, 1, (2,)))
    rollout = rollout_for(model)
    model.state = model.state._replace(params=model.state.params.at[3].set(np.nan))
    assert int(train(model, rollout._replace(rewards=rollout.rewards * np.nan)).fault) == FaultKind.STATE_NOT_FINITE
    assert int(model.state.counters.skipped_updates) == 1


def test_a_step_of_the_optimiser_that_is_not_finite_is_a_fault() -> None:
    model = make(nminibatches=1, noptepochs=1)
    rollout = rollout_for(model)
    assert int(train(model, rollout, lr=np.inf).fault) == FaultKind.STEP_NOT_FINITE
    assert int(model.state.opt_state.count) == 0
    assert np.isfinite(params(model)).all()
    assert int(train(model, rollout).fault) == FaultKind.NONE
    assert [int(count) for count in model.state.counters] == [2, 1, 1]


def test_statistics_that_overflow_are_a_fault() -> None:
    """1e25 is a number of float32; its square is not."""
    wide = gym.spaces.Box(-np.inf, np.inf, (3,))
    model = make(obs_space=wide, normalize_obs=True)
    rollout = rollout_for(model)
    assert int(model.observe(rollout).kind) == FaultKind.NONE
    huge = rollout._replace(obs=rollout.obs.at[1].set(1e25))
    assert int(model.observe(huge).kind) == FaultKind.STATISTICS_NOT_FINITE
    assert int(train(model, huge).fault) == FaultKind.STATISTICS_NOT_FINITE
    assert np.isfinite(np.asarray(model.state.normaliser.obs.var)).all()


def test_an_action_that_is_not_finite_is_the_policys_fault_only_where_it_saw_well() -> None:
    model = make(action_space=gym.spaces.Box(-1, 1, (2,)))
    rollout = rollout_for(model)
    wild = rollout._replace(actions=rollout.actions.at[5:, 2].set(np.nan), obs=rollout.obs.at[6:, 2].set(np.nan))
    told = train(model, wild)
    assert (int(told.fault), divmod(int(told.fault_index), 4)) == (FaultKind.ACTION_NOT_FINITE, (5, 2))
    blinded = wild._replace(obs=wild.obs.at[3, 2].set(np.nan))  # a recurrent policy would not forget it
    told = train(model, blinded)
    assert (int(told.fault), divmod(int(told.fault_index), 4)) == (FaultKind.OBS_NOT_FINITE, (3, 2))


class Spoils(Model):
    """A user's own update, which knows nothing of faults."""

    def update(self, state: Any, rollout: Any, hyper: Any, *split: Any) -> Any:
        after, stats = super().update(state, rollout, hyper, *split)
        return after._replace(params=after.params / (after.counters.updates - 2)), stats


def test_results_of_a_users_own_update_that_are_not_finite_are_dropped() -> None:
    model = make(Spoils)
    rollout = rollout_for(model)
    assert int(train(model, rollout).fault) == FaultKind.NONE
    before = params(model)
    assert int(train(model, rollout).fault) == FaultKind.STEP_NOT_FINITE  # division by 2 - 2
    np.testing.assert_array_equal(params(model), before)
    assert int(train(model, rollout).fault) == FaultKind.NONE


class OtherTypes(Model):
    """A user's own update, whose state has Python's numbers and 64 bits."""

    def update(self, state: Any, rollout: Any, hyper: Any, *split: Any) -> Any:
        after, stats = super().update(state, rollout, hyper, *split)
        counters = after.counters._replace(skipped_updates=0)
        return after._replace(params=after.params * np.float64(1), counters=counters), stats


@pytest.mark.parametrize("x64", [False, True])
def test_a_state_of_other_types_changes_no_program(x64: bool) -> None:
    with jax.enable_x64(x64):
        model = make(OtherTypes)
        rollout = rollout_for(model)
        types = [x.aval for x in jax.tree.leaves(model.state)]
        for _ in range(2):
            train(model, rollout)
            assert [x.aval for x in jax.tree.leaves(model.state)] == types
    assert program(model, train_program, ONE_DEVICE)._cache_size() == 1


def test_out_of_range_observations_are_a_fault() -> None:
    model = make(obs_space=gym.spaces.Discrete(4))
    rollout = rollout_for(model)
    assert int(train(model, rollout._replace(obs=rollout.obs.at[1, 2].set(7))).fault) == FaultKind.OBS_OUT_OF_RANGE


class DoubledLoss(Model):
    """A user's own objective."""

    def loss(self, policy: Any, normaliser: Any, batch: Any, hyper: Any) -> Any:
        loss, stats = super().loss(policy, normaliser, batch, hyper)
        return 100.0 * loss, stats


def test_a_subclass_replaces_the_loss() -> None:
    usual, own = make(max_grad_norm=None), make(DoubledLoss, max_grad_norm=None)
    rollout = rollout_for(usual)
    told = [train(model, rollout) for model in (usual, own)]
    assert float(told[1].grad_norm) > 20 * float(told[0].grad_norm)


class OwnFigures(Model):
    """A user's own figures, of other types."""

    def gradients(self, params: Any, normaliser: Any, batch: Any, hyper: Any) -> Any:
        gradient, _ = super().gradients(params, normaliser, batch, hyper)
        return gradient, Stats(*(0.25, 2, np.float64(3), jnp.bfloat16(1), True))  # type: ignore[arg-type]


@pytest.mark.parametrize("target_kl", [None, 0.5])
def test_figures_of_a_subclass_may_be_of_other_types(target_kl: float | None) -> None:
    """Means over the minibatches that were computed: with `target_kl` the first, which is too far off."""
    model = make(OwnFigures, target_kl=target_kl)
    stats = train(model, rollout_for(model))
    assert [float(x) for x in stats[:5]] == [0.25, 2, 3, 1, 1]
    assert {(type(x), x.dtype) for x in stats[:7]} == {(np.ndarray, np.dtype(np.float32))}
    assert int(stats.gradient_steps) == (16 if target_kl is None else 0)


def test_parameters_of_the_normaliser_are_not_learned() -> None:
    """No gradient and no Adam moment for statistics: the optimiser's vector is the parameters' size."""
    model = make(normalize_obs=True, normalize_rewards=True)
    assert model.state.opt_state.mu.shape == model.state.params.shape
    plain = make()
    assert plain.state.params.shape == model.state.params.shape


def test_same_shapes_share_compiled_programs() -> None:
    first, second = make(ent_coef=0.0), make(ent_coef=0.5)
    from ppo2.agent.compiled import program
    from ppo2.agent.model_programs import train_program

    assert program(first, train_program, ONE_DEVICE) is program(second, train_program, ONE_DEVICE)
    assert program(make(noptepochs=3), train_program, ONE_DEVICE) is not program(first, train_program, ONE_DEVICE)


# --- files


def test_save_and_load_give_the_same_model(tmp_path: Path) -> None:
    model = make(normalize_obs=True, normalize_rewards=True, value_network="copy")
    train(model, rollout_for(model))
    loaded = ppo2.load(model.save(tmp_path / "model.safetensors"))
    obs = np.asarray(jax.random.normal(jax.random.key(5), (20, 3)))
    np.testing.assert_array_equal(model.predict(obs)[0], loaded.predict(obs)[0])
    np.testing.assert_array_equal(model.value(obs), loaded.value(obs))
    rollout = rollout_for(model)
    train(model, rollout)
    train(loaded, rollout)  # optimiser, normaliser, key and counters are back as well
    # On a card the loaded model's program is compiled again, and XLA may choose another kernel for a product.
    tolerance = 0.0 if platform() == "cpu" else 1e-5
    np.testing.assert_allclose(params(model), params(loaded), rtol=tolerance, atol=tolerance / 10)


def test_a_file_shows_each_layer_by_name(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(make(value_network="copy").save(tmp_path / "m.safetensors"))
    assert tensors["params/trunk/layers/0/weight"].shape == (8, 3)
    assert tensors["adam/mu/action_head/weight"].shape == (3, 8)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    from ppo2.checkpoints import checkpoint

    saved = checkpoint.load(make(value_network="copy").save(tmp_path / "m.safetensors"))
    policy = build_policy(
        OBS,
        gym.spaces.Discrete(3),
        network="mlp",
        network_kwargs={"num_hidden": 9},
        value_network="copy",
        key=root_key(0),
    )
    with pytest.raises(ValueError, match=r"m\.safetensors.*expected float32 of shape \(.*9.*\), found .*8"):
        restore(make(policy=policy), saved)
    deeper = build_policy(
        OBS, gym.spaces.Discrete(3), network="mlp", network_kwargs={"num_hidden": 8, "num_layers": 3}, key=root_key(0)
    )
    with pytest.raises(ValueError, match="lacks 'adam/mu/trunk/layers/2"):
        restore(make(policy=deeper), saved)
    with pytest.raises(ValueError, match="lacks 'normaliser"):
        restore(make(normalize_obs=True), saved)


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        ({"obs_space": gym.spaces.Box(-1, 1, (4,))}, r"another observation space: expected .*4.*found .*3"),
        (
            {"action_space": gym.spaces.Discrete(2)},
            r"another action space: expected Discrete\(2\), found Discrete\(3\)",
        ),
    ],
)
def test_a_checkpoint_of_another_space_is_refused(tmp_path: Path, spaces: dict[str, Any], message: str) -> None:
    from ppo2.checkpoints import checkpoint

    saved = checkpoint.load(make().save(tmp_path / "m.safetensors"))
    with pytest.raises(ValueError, match=message):
        restore(make(**spaces), saved)


def test_objects_that_a_file_cannot_hold_must_be_passed(tmp_path: Path) -> None:
    network = eqx.nn.MLP(3, 8, 8, 1, key=jax.random.key(0))
    policy = build_policy(OBS, gym.spaces.Discrete(3), network=network, key=root_key(0))
    model = make(policy=policy, network=network, network_kwargs={}, lr=lambda frac: 1e-3 * frac)
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"object \(MLP\) as `network`.*network=\.\.\."):
        ppo2.load(path)
    obs = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(ppo2.load(path, network=network).value(obs), model.value(obs))


# --- compiled programs are shared only where they are the same


class Gathered(eqx.Module):
    """A network with arrays that aren't learned, which can't be hashed."""

    weight: Any
    order: Any
    function: Any = eqx.field(static=True)

    def __call__(self, x: Any) -> Any:
        return self.function(self.weight @ x[self.order])


def gathered(function: Any, order: list[int], width: int = 8) -> Gathered:
    return Gathered(jax.random.normal(jax.random.key(1), (width, 3)), jnp.array(order), function)


def policy_with(network: Any) -> Any:
    return build_policy(OBS, gym.spaces.Discrete(3), network=network, key=root_key(0))


@pytest.mark.slow
def test_models_of_other_networks_do_not_share_programs() -> None:
    for function, order in ((jnp.tanh, [0, 1, 2]), (jnp.sin, [2, 1, 0])):
        network = gathered(function, order)
        whole, pieces = (
            make(kind, policy=policy_with(network))
            for kind in (Model, lambda **kw: MicrobatchedModel(**kw, microbatch_size=4))
        )
        rollout = rollout_for(whole)
        train(whole, rollout)
        train(pieces, rollout)
        np.testing.assert_allclose(params(whole), params(pieces), atol=2e-5)


@pytest.mark.slow
def test_networks_of_other_shapes_do_not_share_programs() -> None:
    class Raw(eqx.Module):
        first: Any
        second: Any

        def __call__(self, x: Any) -> Any:
            return jnp.tanh(self.second @ jnp.tanh(self.first @ x))

    for width in (8, 12):
        network = Raw(jnp.ones((width, 3)), jnp.ones((16, width)))
        model = make(policy=policy_with(network))
        train(model, rollout_for(model))


def test_a_method_patched_on_one_model_stays_there() -> None:
    patched, usual = make(), make()
    loss = patched.loss
    patched.loss = lambda *args: (loss(*args)[0], loss(*args)[1]._replace(policy_loss=jnp.float32(777.0)))  # type: ignore[method-assign]
    assert float(train(patched, rollout_for(patched)).policy_loss) == 777.0
    assert float(train(usual, rollout_for(usual)).policy_loss) != 777.0


def test_training_leaves_the_callers_key_alone() -> None:
    key = root_key(5)
    model = Model(policy=make().policy, config=make().config, key=key)
    train(model, rollout_for(model))
    jax.random.split(key)


def test_a_copy_stays_what_it_was() -> None:
    model = make(normalize_obs=True)
    best = copy.deepcopy(model)
    obs = np.ones((4, 3), np.float32)
    before = model.value(obs)
    train(model, rollout_for(model))
    np.testing.assert_array_equal(best.value(obs), before)
    assert not np.array_equal(model.value(obs), before)
    train(best, rollout_for(best))


def test_a_network_with_arrays_of_its_own_is_loaded_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def masked() -> Any:
        def build(input_shape: tuple[int, ...], *, key: Any) -> Gathered:
            return Gathered(jnp.ones((8, *input_shape)), jax.random.permutation(key, 3), jnp.tanh)

        return build

    monkeypatch.setitem(registry._builders, "test-masked", masked)
    model = ppo2.learn(
        network="test-masked", env=lambda: Spaced(OBS, gym.spaces.Discrete(2)), total_timesteps=0, seed=4
    )
    obs = np.arange(3, dtype=np.float32)
    assert float(ppo2.load(model.save(tmp_path / "m.safetensors")).value(obs)) == float(model.value(obs))


def test_networks_given_in_parts_can_be_loaded(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "network": "mlp",
        "activation": jax.nn.elu,
        "value_network": gathered(jnp.tanh, [0, 1, 2]),
    }
    model = ppo2.learn(env=lambda: Spaced(OBS, gym.spaces.Discrete(2)), total_timesteps=0, seed=4, **settings)
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="`value_network`"):
        ppo2.load(path)
    with pytest.raises(ValueError, match=r"`activation`.*activation=\.\.\."):
        ppo2.load(path, value_network=settings["value_network"])
    loaded = ppo2.load(path, value_network=settings["value_network"], activation=jax.nn.elu)
    assert float(loaded.value(np.ones(3))) == float(model.value(np.ones(3)))

"""`--env.NAME VALUE`: arguments of environments on the command line."""

import inspect
import math

import pytest

import ppo2
from ppo2.cli import env_options, main
from ppo2.cli.env_options import EnvArgument, EnvWords, UsageError, env_kwargs, literal, read, separated
from ppo2.cli.output import shown

pytestmark = pytest.mark.usefixtures("quickly_compiled")

FROZEN = "FrozenLake-v1"
WORDS = ["--env.is-slippery", "false", "--env.max_episode_steps=50", "--env.frame-stack", "4", "--env.workers", "0"]
VALUES = {"is_slippery": False, "max_episode_steps": 50, "frame_stack": 4, "workers": 0}


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_they_become_arguments_of_learn(given, command):
    assert given(command, FROZEN, *WORDS, "--num-envs", "2")["env_kwargs"] == VALUES
    assert given(command, *WORDS, FROZEN)["env_kwargs"] == VALUES


def test_evaluation_inherits_them(given):
    arguments = given("train", FROZEN, "--eval-env", FROZEN, *WORDS, "--eval-env.is-slippery")
    assert arguments["env_kwargs"] == VALUES
    assert arguments["eval_env_kwargs"] == {**VALUES, "is_slippery": True}
    assert given("train", FROZEN, "--eval-env", FROZEN, *WORDS)["eval_env_kwargs"] is None


@pytest.mark.core
def test_a_run_is_evaluated_and_resumed_on_the_same_environment(tmp_path, capsys):
    tiny = ["--num-envs", "2", "--nsteps", "8", "--nminibatches", "2", "--no-progress", "--num-hidden", "4"]
    words = ["--env.max-episode-steps", "3", "--env.is-slippery", "false", "--run-dir", str(tmp_path / "r")]
    assert main(["train", FROZEN, "--total-timesteps", "32", *words, *tiny]) == 0
    assert "max_episode_steps 3, is_slippery False" in capsys.readouterr().out
    assert main(["eval", str(tmp_path / "r"), "--episodes", "4"]) == 0
    out = capsys.readouterr().out
    assert "FrozenLake-v1, max_episode_steps 3, is_slippery False, 4 episodes" in out
    assert main(["eval", str(tmp_path / "r"), "--episodes", "4", "--env.max-episode-steps", "1"]) == 0
    lengths = capsys.readouterr().out.splitlines()[-1].split()
    assert lengths == ["length", "1.00", "0.00", "1.00", "1.00"]
    assert main(["resume", str(tmp_path / "r"), "--total-timesteps", "64", "--no-progress"]) == 0
    rows = (tmp_path / "r" / "monitor.csv").read_text().splitlines()[2:]
    assert {row.split(",")[1] for row in rows} <= {"1", "2", "3"}


def test_words_are_taken_out_of_the_line():
    line = ["ENV", "--env.a-b", "1", "--lr", "1e-3", "--eval_env.c=[1, 2]", "--env.flag", "--debug", "--env.low", "-1"]
    rest, words = separated(line)
    assert rest == ["ENV", "--lr", "1e-3", "--debug"]
    assert words == EnvWords({"a_b": "1", "flag": None, "low": "-1"}, {"c": "[1, 2]"})


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("3", 3), ("1e-3", 1e-3), ("true", True), ("False", False), ("null", None), ("None", None), ("no", "no"),
        ("[1, 2]", [1, 2]), ("(1, 2)", (1, 2)), ("{a: 1}", {"a": 1}), ("8x8", "8x8"), ("12:30", "12:30"),
        ("inf", math.inf),        ("[SFFF, FHFH]", ["SFFF", "FHFH"]), ("a: b", {"a": "b"}), ("'1'", "1"), ("[", "["),
        ("2020-01-01", "2020-01-01"),
    ],
)  # fmt: skip
def test_literals(word, value):
    assert literal(word) == value
    assert type(literal(word)) is type(value)


@pytest.mark.parametrize(
    ("kind", "default", "word", "value"),
    [
        (int, 1, "1e3", 1000), (float, 1.0, "2", 2.0), (str, "a", "3", "3"), (None, "a", "3", "3"), (None, 1.0, "2", 2),
        (str | None, None, "None", None), (int | None, None, "4", 4), (bool, False, None, True),
        (None, False, None, True),
        (tuple[float, float], (0.0, 1.0), "[1, .inf]", (1, math.inf)), (None, None, "x", "x"),
    ],
)  # fmt: skip
def test_values_have_the_arguments_type(kind, default, word, value):
    found = read(word, EnvArgument(kind, default, False), "--env.x")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("env_id", "words", "said"),
    [
        (FROZEN, {"is_slipery": "true"}, "did you mean --env.is-slippery.* It takes .*map-name.*frame-stack"),
        (FROZEN, {"is_slippery": "maybe"}, "--env.is-slippery maybe: this must be true or false"),
        (FROZEN, {"max_episode_steps": "many"}, "--env.max-episode-steps many: this must be a whole number or None"),
        (FROZEN, {"max_episode_steps": "1.5"}, "--env.max-episode-steps 1.5: this must be a whole number or None"),
        (FROZEN, {"workers": None}, "--env.workers: a value is missing"),
        (FROZEN, {"num_envs": "3"}, "an option by itself: --num-envs"),
    ],
)
def test_wrong_words(env_id, words, said):
    with pytest.raises(UsageError, match=said):
        env_kwargs(env_id, words)


def test_a_wrong_word_is_a_usage_error(capsys):
    assert main(["train", FROZEN, "--env.is-slipery", "true"]) == 2
    assert "did you mean --env.is-slippery?" in capsys.readouterr().err
    assert main(["train", FROZEN, "--eval-env.is-slippery", "true"]) == 2
    assert "give --eval-env ID too" in capsys.readouterr().err


def test_device_environments(given):
    pytest.importorskip("gymnax")
    words = ["--env.max-steps-in-episode", "7", "--env.gravity", "9"]
    assert given("train", "gymnax:CartPole-v1", *words)["env_kwargs"] == {"max_steps_in_episode": 7, "gravity": 9}
    with pytest.raises(UsageError, match=r"did you mean --env.gravity\?"):
        env_kwargs("gymnax:CartPole-v1", {"gravitiy": "9"})


def test_atari_and_open_constructors():
    pytest.importorskip("ale_py")
    found = env_kwargs("ALE/Pong-v5", {"sticky_actions": "0.25", "noops": "10", "full_action_space": "true"})
    assert found == {"sticky_actions": 0.25, "noops": 10, "full_action_space": True}
    pytest.importorskip("mujoco")
    assert env_kwargs("Hopper-v5", {"healthy_z_range": "[0.5, inf]"}) == {"healthy_z_range": (0.5, math.inf)}


def test_every_argument_of_make_has_words():
    names = set(inspect.signature(ppo2.make).parameters) - env_options.NOT_GIVEN_HERE
    assert names == set(env_options.TEXTS)


@pytest.mark.parametrize("command", ["eval", "play", "export", "doctor"])
def test_commands_that_evaluate_on_nothing_else_refuse_eval_env(command, capsys):
    assert main([command, "x", "--eval-env.is-slippery", "true"]) == 2
    assert f"--eval-env.is_slippery: `ppo2 {command}` takes --env.NAME alone" in capsys.readouterr().err


def test_numbers_that_are_not_finite_are_shown():
    assert [shown(value) for value in (math.inf, -math.inf, math.nan, 1e6)] == ["inf", "-inf", "nan", "1,000,000"]


def test_another_environment_without_the_arguments_of_the_run(tmp_path, capsys):
    tiny = ["--num-envs", "2", "--nsteps", "8", "--nminibatches", "2", "--no-progress", "--num-hidden", "4"]
    words = ["--env.sutton-barto-reward", "true", "--env.max-episode-steps", "3", "--run-dir", str(tmp_path / "r")]
    assert main(["train", "CartPole-v1", "--total-timesteps", "16", *words, *tiny]) == 0
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "r"), "--episodes", "2", "--no-inherit", "--max-steps", "5"]) == 0
    assert "CartPole-v1, 2 episodes" in capsys.readouterr().out
    assert main(["eval", str(tmp_path / "r"), "--episodes", "2", "--env", "CartPole-v0"]) == 0
    assert "CartPole-v0, sutton_barto_reward True, max_episode_steps 3, 2" in capsys.readouterr().out
    for command in ("eval", "play"):
        assert main([command, str(tmp_path / "r"), "--env", "FrozenLake-v1"]) == 1
        assert "takes no `sutton_barto_reward` (=True), with which" in capsys.readouterr().err
        assert main([command, str(tmp_path / "r"), "--env", "FrozenLake-v1", "--no-inherit"]) == 1
        assert "has another observation space" in capsys.readouterr().err

import dataclasses
import importlib.util
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import docstring_parser
import gymnasium as gym
import jax
import pytest

import ppo2
from ppo2 import networks
from ppo2.cli import main, options, sweep, train
from ppo2.distributed import processes

ENVIRONMENT = """
import os, time
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv


class Slow(CartPoleEnv):
    def step(self, action):
        time.sleep(float(os.environ.get("SLOW", "0")))
        return super().step(action)


gym.register("Slow-v0", entry_point=Slow, max_episode_steps=100, reward_threshold=5.0)
"""
TINY = ["--num-envs", "2", "--nsteps", "32", "--nminibatches", "2", "--noptepochs", "1", "--log-interval", "1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory to run in, with an environment of its own and a cache of compiled programs."""
    path = tmp_path_factory.mktemp("cli")
    (path / "slow.py").write_text(ENVIRONMENT)
    return path


def start(place, *arguments, slow=0.0):
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "PPO2_LOG_FORMAT")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ |= {"JAX_COMPILATION_CACHE_DIR": str(place / "cache"), "SLOW": str(slow), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "ppo2", *map(str, arguments)],
        cwd=place,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def interrupt(process, run_dir, number):
    """Sends the signal once the first update has been logged."""
    rows = run_dir / "progress.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and not (rows.exists() and rows.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    return finish(process)


def rows_of(run_dir):
    return [json.loads(line) for line in (run_dir / "progress.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def interrupted(place):
    """A training process that got SIGINT, and what it said."""
    arguments = ["train", "slow:Slow-v0", "--run-dir", "runs/x", "--total_timesteps", "6.4e3", *TINY]
    return interrupt(start(place, *arguments, slow=0.001), place / "runs" / "x", signal.SIGINT)


@pytest.fixture(scope="module")
def resumed(place, interrupted):
    """The same run, resumed to its end."""
    assert interrupted[0] == 130
    before = rows_of(place / "runs" / "x")
    return (*finish(start(place, "resume", "runs/x", "--no-progress")), before)


# --- whole processes


def test_sigint_leaves_a_checkpoint_and_says_how_to_go_on(place, interrupted):
    status, out, err = interrupted
    assert status == 130
    assert err == "ppo2: stopped by SIGINT; `ppo2 resume runs/x` goes on\n"
    assert "slow:Slow-v0 (default preset)" in out
    assert "num_layers 2" in out
    updates = rows_of(place / "runs" / "x")[-1]["misc/nupdates"]
    assert 0 < updates < 100  # of 6400 / (2 * 32)
    assert list((place / "runs" / "x" / "checkpoints").iterdir())


def test_sigterm_leaves_a_checkpoint(place):
    arguments = ["train", "slow:Slow-v0", "--run-dir", "runs/term", "--total-timesteps", "6.4e3", *TINY]
    status, _, err = interrupt(start(place, *arguments, slow=0.001), place / "runs" / "term", signal.SIGTERM)
    assert (status, err) == (143, "ppo2: stopped by SIGTERM; `ppo2 resume runs/term` goes on\n")
    assert list((place / "runs" / "term" / "checkpoints").iterdir())


def test_resume_goes_on_to_the_original_total(place, resumed):
    status, _, err, before = resumed
    assert (status, err) == (0, "")
    rows = rows_of(place / "runs" / "x")
    assert rows[: len(before)] == before
    assert [row["misc/nupdates"] for row in rows] == list(range(1, 101))
    assert (place / "runs" / "x" / "checkpoints" / "00100.safetensors").exists()


@pytest.mark.slow
def test_until_solved(place):
    words = ["train", "slow:Slow-v0", "--run-dir", "runs/solved", "--total-timesteps", "64000", "--until-solved"]
    status, out, err = finish(start(place, *words, *TINY))
    assert (status, err) == (0, "")
    assert re.search(r"\nsolved: the mean return of \d+\.\d reaches the threshold of 5\n$", out)
    run = place / "runs" / "solved"
    episodes = len((run / "monitor.csv").read_text().splitlines()) - 1
    assert 100 <= episodes < 130  # an update of 64 timesteps ends a dozen episodes at most
    assert (run / "checkpoints" / f"{rows_of(run)[-1]['misc/nupdates']:05d}.safetensors").exists()


def test_eval_in_a_process_agrees_with_python(place, resumed):
    status, out, err = finish(start(place, "eval", "runs/x", "--env", "CartPole-v1", "--episodes", "4", "--seed", "3"))
    assert (status, err) == (0, "")
    result = ppo2.evaluate(ppo2.load(place / "runs" / "x"), "CartPole-v1", episodes=4, seed=3)
    assert out.splitlines()[0] == "CartPole-v1, 4 episodes, most probable actions, seed 3"
    figures = [f"{x:,.2f}" for x in (result.mean, result.std, result.returns.min(), result.returns.max())]
    assert out.splitlines()[2].split() == ["return", *figures]


def test_play_films(place, resumed):
    pytest.importorskip("pygame")
    imageio = pytest.importorskip("imageio.v3")
    status, out, _ = finish(start(place, "play", "runs/x", "--video", "out.gif"))  # SDL may complain on stderr
    assert status == 0
    assert re.fullmatch(r"episode 1: return \d+, \d+ timesteps\nwrote out\.gif\n", out)
    assert imageio.imread(place / "out.gif").shape[1:] == (400, 600, 3)


def test_usage_errors_exit_2(place):
    status, out, err = finish(start(place, "train", "CartPole-v1", "--num-layer", "3"))
    assert (status, out) == (2, "")
    assert "Unrecognized options: --num-layer" in err
    assert "--num-layers" in err


def test_failures_exit_1_with_one_line(place):
    status, out, err = finish(start(place, "train", "CartPol-v1"))
    assert (status, out) == (1, "")
    assert re.fullmatch(r"ppo2: `env` \(='CartPol-v1'\): .*CartPole-v1.*\n", err)


def test_nobody_reads_on(place):
    process = start(place, "presets", "CartPole-v1")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1


# --- in this process


@pytest.fixture(autouse=True)
def here(monkeypatch, place):
    """JAX has started, so that `main` leaves its settings alone; `slow.py` can be imported."""
    jax.devices()
    monkeypatch.setenv("PPO2_LOG_FORMAT", "")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.syspath_prepend(place)


@pytest.fixture
def given(monkeypatch):
    """The arguments that `learn` would have got from a command."""

    def arguments(*command):
        seen = {}
        monkeypatch.setattr("ppo2.training.learn.learn", seen.update)
        monkeypatch.setattr("ppo2.training.sweep.sweep", seen.update)
        monkeypatch.setattr(sweep, "_show", lambda result: None)
        assert main([str(word) for word in command]) == 0
        return seen

    return arguments


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ppo2 {ppo2.__version__}\n"


def test_help_has_what_learn_says(capsys):
    assert main(["--help"]) == 0
    listed = re.findall(r"• (\w+)", capsys.readouterr().out)
    assert listed == ["train", "resume", "sweep", "eval", "play", "plot", "envs", "networks", "presets"]
    assert main(["train", "--help"]) == 0
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    texts = {p.arg_name: " ".join(p.description.split()) for p in docstring_parser.parse(networks.mlp.__doc__).params}
    texts |= {field.name: field.metadata["use"].text for field in dataclasses.fields(ppo2.Config)}
    parameters = set(inspect.signature(ppo2.learn).parameters) | set(inspect.signature(networks.mlp).parameters)
    for name in parameters - options.NOT_OPTIONS:
        assert f"--{name.replace('_', '-')} " in text.replace(",", " "), name
        assert texts.get(name, "") in text, name
    assert not any(f"--{name.replace('_', '-')} " in text for name in options.NOT_OPTIONS)


def test_help_imports_neither_jax_nor_environments():
    program = """
import sys
from ppo2.cli import main
assert [main(words) for words in (["--help"], ["plot", "--help"], ["resume", "--help"])] == [0, 0, 0]
print({"jax", "equinox", "optax", "gymnasium", "matplotlib", "scipy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


def test_defaults_of_settings_are_those_of_learn():
    learns = inspect.signature(ppo2.learn).parameters
    for option in options.setting_options():
        assert option.default == learns[option.name].default, option.name
    assert options.TrainingOptions.heartbeat == processes.HEARTBEAT_SECONDS


@pytest.mark.parametrize(("command", "many"), [(train.Train, False), (sweep.Sweep, True)])
def test_the_first_reading_knows_every_option(command, many):
    """It looks for the environment and the network, before options of other networks are unknown."""
    fields = [field for field in dataclasses.fields(command.with_options([])) if field.name != "env"]
    words = [f"--{field.name}" if isinstance(field.default, bool) else f"--{field.name}=x" for field in fields]
    assert options._read_loosely(["Env-v0", *words], many) == ("Env-v0", "x", [])


def test_defaults_are_learns_under_the_preset(given):
    arguments = given("train", "CartPole-v1", "--run-dir", "runs/y")
    learns = {name: p.default for name, p in inspect.signature(ppo2.learn).parameters.items()}
    del learns["env"], learns["network_kwargs"]
    expected = learns | ppo2.preset("CartPole-v1") | {"env": "CartPole-v1", "run_dir": "runs/y", "progress": True}
    expected |= {"num_layers": 2, "num_hidden": 64, "activation": "tanh", "layer_norm": False}
    assert arguments == {k: v for k, v in expected.items() if k not in ("model_fn", "init_fn")}


def test_what_is_given_wins(given):
    arguments = given(
        *("train", "--normalize-obs", "CartPole-v1", "--total-timesteps", "1e6", "--max-grad-norm", "None"),
        *("--value-cliprange", "None", "--lr", "cosine:1e-3", "--cliprange", "0.1", "--seed", "7", "--num-layers", "3"),
        *("--value-network", "None", "--target-kl", "0.02", "--no-progress", "--eval-env", "CartPole-v1"),
    )
    expected = {"total_timesteps": 1e6, "max_grad_norm": None, "value_cliprange": None, "lr": "cosine:1e-3"}
    expected |= {"cliprange": 0.1, "seed": 7, "num_layers": 3, "value_network": None, "target_kl": 0.02}
    expected |= {"progress": False, "eval_env": "CartPole-v1", "normalize_obs": True, "env": "CartPole-v1"}
    assert {name: arguments[name] for name in expected} == expected


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_values_of_several_words(given, command):
    words = ["CartPole-v1", "--encoders", "camera", "cnn_small", "arm/angles", "mlp", "--num-envs", "2"]
    arguments = given(command, *words)
    assert arguments["encoders"] == {"camera": "cnn_small", "arm/angles": "mlp"}
    assert arguments["num_envs"] == 2
    arguments = given(command, "CartPole-v1", "--network", "conv_only", "--convs", *["32", "8", "4", "64", "4", "2"])
    assert arguments["convs"] == ((32, 8, 4), (64, 4, 2))
    assert given("train", "--network", "cnn_lstm", "--nlstm", "32", "CartPole-v1")["nlstm"] == 32


def test_dashes_and_underscores_are_the_same(given):
    words = ("train", "CartPole-v1", "--run-dir", "r", "--total-timesteps", "3e4", "--num-hidden", "8", "--layer-norm")
    with_dashes = given(*words)
    underscored = ["--" + word[2:].replace("-", "_") if word.startswith("--") else word for word in words]
    assert given(*underscored) == with_dashes


def test_run_dir_is_named_after_the_environment_and_the_time(given):
    assert re.fullmatch(r"runs/CartPole-v1-\d{8}-\d{6}", given("train", "CartPole-v1")["run_dir"])
    assert re.fullmatch(r"runs/slow-Slow-v0-\d{8}-\d{6}", given("train", "slow:Slow-v0")["run_dir"])
    assert given("train", "CartPole-v1", "--run-dir", "None")["run_dir"] is None


def test_options_of_a_registered_network(given, capsys, monkeypatch):
    def probe(width: int = 8, *, depth=2, gain: float | None = None, sizes: tuple[int, ...] = (4, 4), f=print):
        """Does nothing.

        Args:
            width: how wide.
        """

    monkeypatch.setitem(networks.registry._builders, "probe", probe)
    arguments = given(
        *("train", "--width", "3", "CartPole-v1", "--network", "probe", "--gain", "0.5", "--sizes", "1", "2")
    )
    assert {name: arguments[name] for name in ("network", "width", "depth", "gain", "sizes")} == {
        "network": "probe",
        "width": 3,
        "depth": 2,
        "gain": 0.5,
        "sizes": (1, 2),
    }
    assert (
        main(["train", "CartPole-v1", "--network", "probe", "--num-layers", "3"]) == 2
    )  # those of mlp are not its own
    capsys.readouterr()
    assert main(["train", "CartPole-v1", "--network", "probe", "--help"]) == 0
    assert "of probe: how wide." in capsys.readouterr().out
    assert main(["networks"]) == 0
    assert "probe  Does nothing.\n  width=8  depth=2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        (["train", "CartPole-v1", "--network", "mpl"], 1, r"ppo2: `network` \(='mpl'\): .*did you mean 'mlp'.*\n"),
        (["train", "[bold]x[/bold]"], 1, r"ppo2: `env` \(='\[bold\]x\[/bold\]'\): .*\n"),
        (["train", "CartPole-v1", "--nsteps", "0", "--run-dir", "None"], 1, r"ppo2: `nsteps` \(=0\) must be .*\n"),
        (["train", "CartPole-v1", "--lr", "lin:1", "--run-dir", "None"], 1, r"ppo2: `lr` \(='lin:1'\) .*\n"),
        (["train", "CartPole-v1", "--nsteps", "many"], 2, r".*(?s:nsteps).*"),
        (["train", "CartPole-v1", "--seed"], 2, r".*(?s:Missing value for argument '--seed').*"),
        (["train"], 2, r".*(?s:ENV).*"),
        (["plot"], 2, r".*(?s:RUN).*"),
        (["bogus"], 2, r".*(?s:Available subcommands: train, resume).*"),
        ([], 2, r".*(?s:Missing subcommand).*"),
        (["eval", "no\x1b[2Jwhere"], 1, r"ppo2: there is no checkpoint at no\\x1b\[2Jwhere: .*\n"),
        (["resume", "nowhere"], 1, r"ppo2: nowhere is no run directory: .*\n"),
        (["plot", "nowhere"], 1, r"ppo2: nowhere does not exist\..*\n"),
        (["presets", "No-v0"], 1, r"ppo2: `env` \(='No-v0'\): .*\n"),
        (
            ["train", "Pendulum-v1", "--until-solved"],
            1,
            r"ppo2: --until-solved: Pendulum-v1 is registered without .*\n",
        ),
    ],
)
def test_errors(command, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command) == status
    assert re.fullmatch(message, capsys.readouterr().err, re.DOTALL if status == 2 else 0)
    assert not list(tmp_path.iterdir())


def test_debug_shows_where(capsys):
    assert main(["train", "No-v0", "--debug"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("ppo2: `env` (='No-v0')")


def test_other_failures_name_their_kind(capsys, monkeypatch):
    def fail(**_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("ppo2.training.learn.learn", fail)
    assert main(["train", "CartPole-v1"]) == 1
    assert capsys.readouterr().err == "ppo2: RuntimeError: two lines (--debug shows where)\n"


def test_prints_what_it_resolved_to(given, capsys):
    given("train", "CartPole-v1", "--run-dir", "runs/z", "--gamma", "0.9", "--save-interval", "5", "--num-layers", "3")
    assert capsys.readouterr().out.splitlines() == [
        "env       CartPole-v1 (classic control preset)",
        "network   mlp, num_layers 3, num_hidden 64, activation tanh, layer_norm False,",
        "          value_network copy",
        "settings  lr linear:1e-3, cliprange linear:0.2, value_cliprange None,",
        "          gamma 0.9, lam 0.9, ent_coef 0, log_interval 10, save_interval 5",
        "run       runs/z",
    ]


def test_verdict():
    solved = train._UntilSolved("CartPole-v1")
    assert solved(1, None, SimpleNamespace(eprewmean=474.9, episodes=200)) is True  # goes on
    assert solved.verdict() == "not solved: the mean return did not reach the threshold of 475"
    assert solved(2, None, SimpleNamespace(eprewmean=475.0, episodes=99)) is True
    assert solved.verdict() == "not solved: the mean return did not reach the threshold of 475 in 100 episodes"
    assert solved(3, None, SimpleNamespace(eprewmean=475.0, episodes=100)) is False
    assert solved.verdict() == "solved: the mean return of 475.0 reaches the threshold of 475"


def test_logs_asked_for(given, monkeypatch):
    pytest.importorskip("tensorboardX")
    given("train", "CartPole-v1", "--tensorboard")
    assert os.environ["PPO2_LOG_FORMAT"] == "tensorboard"


def test_resuming_a_finished_run_says_so(place, resumed, capsys):
    assert main(["resume", str(place / "runs" / "x")]) == 0
    assert "is finished: all 100 updates are done." in capsys.readouterr().out


def test_resume_from_one_of_the_checkpoints(tmp_path, capsys, monkeypatch):
    words = ["train", "CartPole-v1", "--run-dir", "run", "--total-timesteps", "256", "--save-interval", "1", *TINY]
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--no-progress", "--num-hidden", "8"]) == 0
    capsys.readouterr()
    file = tmp_path / "run" / "checkpoints" / "00002.safetensors"
    for name in ("run/checkpoints/00002.safetensors", str(file)):
        assert main(["resume", name, "--no-progress"]) == 0
        assert "going on from update 2; later checkpoints are set aside" in capsys.readouterr().out
        assert [row["misc/nupdates"] for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4]
    newest = file.with_name("00004.safetensors")
    newest.write_bytes(b"damaged")
    assert main(["resume", "run"]) == 1
    assert "`ppo2 resume run/checkpoints/00003.safetensors` goes on from there" in capsys.readouterr().err
    assert main(["resume", "run/checkpoints/00003.safetensors", "--no-progress"]) == 0
    assert main(["eval", "run", "--episodes", "1"]) == 0
    for stopped in (tmp_path / "run" / "checkpoints").glob("*"):
        stopped.unlink()
    capsys.readouterr()
    assert main(["resume", "run", "--no-progress"]) == 0  # as if it had been killed before its first checkpoint
    assert "stopped before its first checkpoint: it begins again" in capsys.readouterr().out
    assert [row["misc/nupdates"] for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nsteps", 10**12, "its config.json has a setting that can't be: `total_timesteps`"),
        ("nsteps", 16, "holds a run with other settings: `nsteps` was 32, is 16"),
        ("num_envs", 10**12, "`num_envs`"),
        ("nsteps", "many", "its config.json has a setting that can't be: `nsteps`"),
        ("network_kwargs", {"num_hidden": 10**9}, "other settings: `network_kwargs`"),
        ("network_kwargs", [1], "`network_kwargs`"),
        ("network_kwargs", {"run_dir": "/"}, "`network_kwargs`"),
    ],
)
def test_settings_of_a_run_that_can_not_be(place, resumed, tmp_path, capsys, name, value, message):
    run = tmp_path / "run"
    shutil.copytree(place / "runs" / "x", run)
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**settings, name: value}))
    assert main(["resume", str(run)]) == 1
    assert message in capsys.readouterr().err


def test_resume_names_what_only_python_can_give(tmp_path, capsys):
    run = tmp_path / "run"
    ppo2.learn(
        env=lambda: gym.make("CartPole-v1"),
        lr=lambda frac: 1e-3 * frac,
        num_envs=1,
        nsteps=4,
        total_timesteps=0,
        run_dir=run,
    )
    capsys.readouterr()
    assert main(["resume", str(run)]) == 1
    err = capsys.readouterr().err
    assert "`env` (<lambda>), `lr` (<lambda>)" in err
    assert f"ppo2.learn(env=..., lr=..., load_path='{run}', run_dir='{run}')" in err
    assert main(["eval", str(run)]) == 1
    assert "an environment given as an object (<lambda>): name one with --env ID." in capsys.readouterr().err
    assert main(["eval", str(run), "--env", "CartPole-v1", "--episodes", "1", "--stochastic"]) == 0
    assert capsys.readouterr().out.startswith("CartPole-v1, 1 episode, sampled actions, seed 0\n")


def test_play_prints_returns_where_there_is_no_display(place, resumed, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["play", str(place / "runs" / "x"), "--episodes", "2", "--seed", "4"]) == 0
    assert re.fullmatch(r"(episode [12]: return \d+, \d+ timesteps\n){2}", capsys.readouterr().out)


def test_plot(place, resumed, tmp_path, capsys):
    runs = [str(place / "runs" / "x")] * 2
    assert main(["plot", *runs, "-o", str(tmp_path / "out.svg"), "--smooth", "10"]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'out.svg'}\n"
    assert "mean of 2 runs" in (tmp_path / "out.svg").read_text()


def test_envs(capsys, monkeypatch):
    absent = {"Box2D", *(adapter.package for adapter in ppo2.envs.ADAPTERS.values())}
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *of: None if name in absent else find(name, *of))
    assert main(["envs"]) == 0
    out = capsys.readouterr().out
    assert "Box2D  (needs ppo2[box2d])\n" in out
    assert "MuJoCo\n" in out
    assert "CartPole-v1" in out
    assert "CartPole-v0" not in out.split()
    assert "gymnax: (on the device)  (needs pip install 'ppo2[jax-envs]')\n" in out


def test_envs_of_jax_libraries(capsys):
    pytest.importorskip("gymnax")
    assert main(["envs"]) == 0
    assert "gymnax:CartPole-v1" in capsys.readouterr().out.split()


def test_presets(capsys):
    assert main(["presets"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ +classic control +Box2D +MuJoCo +Atari", out, re.MULTILINE)
    assert re.search(r"^total_timesteps +300,000 +1,000,000 +1,000,000 +10,000,000", out, re.MULTILINE)
    assert re.search(r"^ +gymnax +locomotion +grid worlds$", out, re.MULTILINE)
    assert main(["presets", "CartPole-v1"]) == 0
    rows = dict(line.split() for line in capsys.readouterr().out.splitlines()[1:-2])
    assert set(rows) == set(ppo2.preset("CartPole-v1"))
    assert rows["lr"] == ppo2.preset("CartPole-v1")["lr"]

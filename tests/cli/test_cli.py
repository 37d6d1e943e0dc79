"""The command `ppo2`: help, errors, exit status."""

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import docstring_parser
import pytest

import ppo2
from ppo2 import networks
from ppo2.cli import help, main, options
from support.commands import finish, start


@pytest.mark.core
def test_usage_errors_exit_2(place):
    status, out, err = finish(start(place, "train", "CartPole-v1", "--num-layer", "3"))
    assert (status, out) == (2, "")
    assert "Unrecognized options: --num-layer" in err
    assert "--num-layers" in err


@pytest.mark.core
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_can_not_be_written_is_a_failure(place):
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "ppo2", "--version"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (1, "ppo2: the output could not be written (No space left on device)\n")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ppo2 {ppo2.__version__}\n"


def test_help_has_what_learn_says(capsys):
    assert main(["--help"]) == 0
    listed = re.findall(r"• (\w+)", capsys.readouterr().out)
    runs = "train config resume sweep tune eval play export push plot report watch"
    assert listed == [*runs.split(), "envs", "networks", "presets", "zoo", "doctor"]
    assert main(["train", "--help"]) == 0
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    texts = {p.arg_name: " ".join(p.description.split()) for p in docstring_parser.parse(networks.mlp.__doc__).params}
    texts["activation"] = texts["activation"].replace(", or any function of arrays", "")
    texts |= {field.name: field.metadata["info"].text.rstrip(".") for field in dataclasses.fields(ppo2.Config)}
    texts |= {name: " ".join(words.split()) for name, words in help.TEXTS.items()}
    parameters = set(inspect.signature(ppo2.learn).parameters) | set(inspect.signature(networks.mlp).parameters)
    for name in parameters - options.NOT_OPTIONS:
        assert f"--{name.replace('_', '-')} " in text.replace(",", " "), name
        assert texts.get(name, "").rstrip(".") in text, name
    assert not re.search("equinox|Flax|function of|gymnasium.Env", text)
    headings = ["ENVIRONMENT", "LEARNING", "EVALUATION", "SAVING", "NETWORK", "DISPLAY", "PROCESSES"]
    assert [word for word in text.split() if word in headings] == headings
    assert not any(f"--{name.replace('_', '-')} " in text for name in options.NOT_OPTIONS)


def test_help_imports_neither_jax_nor_environments():
    program = """
import sys
from ppo2.cli import main
assert [main(words) for words in (["--help"], ["plot", "--help"], ["resume", "--help"])] == [0, 0, 0]
print({"jax", "equinox", "optax", "gymnasium", "matplotlib", "numpy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


@pytest.mark.core
@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        (["train", "CartPole-v1", "--network", "mpl"], 1, r"ppo2: `network` \(='mpl'\): .*did you mean 'mlp'.*\n"),
        (["train", "[bold]x[/bold]"], 1, r"ppo2: `env` \(='\[bold\]x\[/bold\]'\): .*\n"),
        (["train", "CartPole-v1", "--nsteps", "0", "--run-dir", "None"], 1, r"ppo2: `nsteps` \(=0\) must be .*\n"),
        (["train", "CartPole-v1", "--lr", "lin:1", "--run-dir", "None"], 1, r"ppo2: `lr` \(='lin:1'\) .*\n"),
        (["train", "CartPole-v1", "--nsteps", "many"], 2, r".*(?s:nsteps).*"),
        (["train", "CartPole-v1", "--seed"], 2, r".*(?s:Missing value for argument .*'--seed').*"),
        (["train", "CartPole-v1", "--auto-resume"], 1, r"ppo2: --auto-resume continues .*: give that, .*\n"),
        (["train", "CartPole-v1", "--auto-resume", "--run-dir", "None"], 1, r"ppo2: --auto-resume .*\n"),
        (["train"], 2, r".*(?s:ENV).*"),
        (["plot"], 2, r".*(?s:RUN).*"),
        (["bogus"], 2, r".*(?s:Available subcommands: train, config, resume).*"),
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


@pytest.mark.parametrize(("options", "level"), [([], "3"), (["--debug"], None)])
def test_advice_for_developers_of_xla_is_not_shown(options, level):
    program = """
import json, os, sys
from ppo2.cli import main
main(["presets", "CartPole-v1", *sys.argv[1:]])
print(json.dumps(os.environ.get("TF_CPP_MIN_LOG_LEVEL")))
"""
    environ = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", program, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == level or (level is None and found == "1")  # JAX's own setting, once it is imported


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

"""Options that there are not: the nearest, and what other libraries' are called here."""

import pytest

from ppo2.cli import main
from ppo2.cli.checks import given_options


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "CartPole-v1", "--num-layer", "3"], "Did you mean --num-layers? `ppo2 train --help` lists"),
        (["sweep", "CartPole-v1", "--seedz", "3"], "Did you mean --seeds? `ppo2 sweep --help` lists"),
        (["eval", "runs/x", "--episode", "3"], "Did you mean --episodes? `ppo2 eval --help` lists"),
        (["plot", "runs/x", "--smoth", "3"], "Did you mean --smooth? `ppo2 plot --help` lists"),
        (["train", "CartPole-v1", "--learning-rate", "3e-4"], "--learning-rate: it is called --lr here: --lr 0.0003."),
        (["train", "CartPole-v1", "--learning_rate=3e-4"], "it is called --lr here: --lr 0.0003."),
        (["train", "--n-steps", "128", "CartPole-v1", "--batch-size", "64"], "--nminibatches 16; the batch"),
        (["train", "CartPole-v1", "--nsteps", "128", "--batch-size", "32"], "--nminibatches 32; the batch"),
        (["train", "CartPole-v1", "--policy", "CnnPolicy"], "it is called --network here: --network cnn."),
        (["train", "--env", "CartPole-v1"], "--env: it is given without a name: `ppo2 train CartPole-v1`."),
        (["train", "--env-id", "CartPole-v1"], "--env-id: it is given without a name: CartPole-v1."),
        (["eval", "--run", "runs/x"], "--run: it is given without a name: `ppo2 eval runs/x`."),
        (["train", "CartPole-v1", "--callback", "x"], "`callbacks` is an argument of ppo2.learn, in Python."),
        (["train", "CartPole-v1", "--env-kwargs", "{a: 1}"], "they are given one by one: --env.NAME VALUE."),
        (["train", "CartPole-v1", "--frame-stack", "4"], "it is called --env.NAME here: --env.frame-stack 4."),
        (["train", "CartPole-v1", "--bogus"], "Unrecognized options: --bogus. `ppo2 train --help` lists"),
    ],
)
def test_wrong_options(command, words, capsys):
    assert main(command) == 2
    err = capsys.readouterr().err
    assert err.startswith("ppo2: Unrecognized options: ")
    assert words in err


def test_the_words_behind_options():
    words = ["ENV", "--a-b", "1", "--c", "--no-d", "--e=f", "--", "--g"]
    assert given_options(words) == {"a_b": "1", "c": None, "no_d": None, "e": "f"}

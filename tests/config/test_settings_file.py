"""Files of settings: what they may be, and what is said of the others."""

import math

import numpy as np
import pytest

from ppo2.config import Config, read_settings, write_settings
from ppo2.config.settings_file import check_names, text

SETTINGS = {
    "env": "FrozenLake-v1", "env_kwargs": {"is_slippery": False, "desc": ["SF", "FG"]}, "lr": "linear:3e-4",
    "total_timesteps": 1000, "value_cliprange": None, "num_layers": 3, "info_keys": ["no"], "ent_coef": 1e-05,
}  # fmt: skip


def test_what_is_written_is_read(tmp_path):
    write_settings(tmp_path / "mine.yaml", SETTINGS, title="Mine", texts={"num_layers": "hidden layers"})
    assert read_settings(tmp_path / "mine.yaml") == SETTINGS
    lines = (tmp_path / "mine.yaml").read_text().splitlines()
    assert lines[0] == "# Mine"
    assert lines[lines.index("num_layers: 3") - 1] == "# hidden layers"
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "lr: 3e-4\nvalue_cliprange: null\nenv_kwargs: {high: .inf}"),
        ("a.yml", "{lr: 0.0003, value_cliprange: ~, env_kwargs: {high: inf}}"),
        ("a.toml", 'lr = 3e-4\nvalue_cliprange = "None"\nenv_kwargs.high = inf'),
        ("a.JSON", '{"lr": 3e-4, "value_cliprange": null, "env_kwargs": {"high": {"float": "inf"}}}'),
    ],
)
def test_formats(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    expected = {"lr": 3e-4, "value_cliprange": None, "env_kwargs": {"high": math.inf}}
    assert read_settings(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.yaml", "lr: [1", "can't be read: .*line"),
        ("a.yaml", "lr: 1\nlr: 2", "'lr' is there twice, in line 2"),
        ("a.yaml", "- lr", "must have settings by name"),
        ("a.toml", "lr = ", "can't be read"),
        ("a.json", "{", "can't be read"),
        ("a.txt", "lr: 1", "must end in .yaml"),
        ("none.yaml", None, "No such file"),
        ("a.yaml", "env_kwargs: 5", r"a.yaml: `env_kwargs` \(=5\) must be a dict"),
        ("a.yaml", "env_kwargs: {[a]: 5}", r"\['a'\] can't be a name, in line 1"),
        ("a.yaml", "network: {object: Net}", "given as an object.*network"),
        ("a.yaml", "env_kwargs: {f: {object: Net}}", "given as an object.*env_kwargs"),
        ("a.yaml", "!!python/object/apply:os.system [echo]", "can't be read: .*constructor"),
    ],
)
def test_what_can_not_be_read(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        read_settings(tmp_path / name)


def test_unknown_names_say_the_nearest_and_other_libraries_names():
    given = {"lrr": 1, "batch_size": 64, "n_steps": 128, "n_envs": 4, "nsteps": 5}
    with pytest.raises(ValueError, match=r"f: `lrr` \(=1\) is no setting; did you mean `lr`\?") as raised:
        check_names("f", given, set(Config.__dataclass_fields__), {"num_envs": 8})
    assert "`batch_size` (=64) is no setting: it is called `nminibatches` here: `nminibatches: 8`" in str(raised.value)
    check_names("f", {"lr": 1}, {"lr"}, {})


def test_objects_are_told_in_comments():
    assert text({"model_fn": dict}).splitlines()[-1] == "# model_fn: dict (an object, given from Python)"


def test_an_argument_may_be_called_object(tmp_path):
    write_settings(tmp_path / "mine.yaml", {"env_kwargs": {"object": "cube"}})
    assert read_settings(tmp_path / "mine.yaml") == {"env_kwargs": {"object": "cube"}}


def test_numbers_of_numpy_are_numbers(tmp_path):
    write_settings(tmp_path / "mine.yaml", {"lr": np.float64(0.5), "env_kwargs": {"size": np.int64(3), "at": (1, 2)}})
    assert read_settings(tmp_path / "mine.yaml") == {"lr": 0.5, "env_kwargs": {"size": 3, "at": [1, 2]}}


@pytest.mark.parametrize("name", ["a.yaml", "a.toml", "a.json"])
def test_a_byte_order_mark_is_passed_over(tmp_path, name):
    content = {"a.yaml": "lr: 1", "a.toml": "lr = 1", "a.json": '{"lr": 1}'}[name]
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert read_settings(tmp_path / name) == {"lr": 1}

import json
import os
import pickle
import re
import stat
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import ppo2
from ppo2 import spaces
from ppo2.agent.files import writer
from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.checkpoint import FORMAT, VERSION
from ppo2.training import run_directory
from support.environments import Spaced

GOLDEN = Path(__file__).parent / "golden"
METADATA = {"config": {"lr": 3e-4, "env": None, "sizes": [1, 2.5]}, "name": "é", "exact": 0.1 + 0.2}


def tensors():
    rng = np.random.default_rng(0)
    return {
        "weight": rng.normal(size=(3, 4)).astype(np.float32),
        "double": rng.normal(size=5),
        "key": rng.integers(2**32, size=2, dtype=np.uint32),
        "count": np.asarray(7, np.int32),
        "nothing": np.zeros((0, 3), np.float16),
        "flags": np.array([True, False]),
        "odd": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        "transposed": rng.normal(size=(2, 3)).T,
        "a/b.c": np.arange(6, dtype=np.int64).reshape(1, 2, 3)[:, ::-1],
    }


def refused(path):
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        checkpoint.load(path)
    return str(error.value)


def saved(path, **header):
    """A file whose header says what it should not."""
    header = {"format": FORMAT, "version": str(VERSION), "metadata": "{}", **header}
    header = {name: value for name, value in header.items() if value is not None}
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(2)}, header))
    return path


@pytest.mark.core
def test_round_trip_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "er" / "model.safetensors"
    assert checkpoint.save(path, tensors(), METADATA) == path
    found = checkpoint.load(path)
    assert found.path == path
    assert found.metadata == METADATA
    assert set(found.tensors) == set(tensors())
    for name, expected in tensors().items():
        tensor = found.tensors[name]
        assert (name, tensor.dtype, tensor.shape) == (name, expected.dtype, expected.shape)
        assert tensor.tobytes() == expected.tobytes()


def test_any_reader_of_safetensors_reads_it(tmp_path):
    path = checkpoint.save(tmp_path / "model.safetensors", tensors(), METADATA)
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["weight"], tensors()["weight"])


def test_saving_again_replaces(tmp_path):
    path = tmp_path / "model.safetensors"
    for number in (1, 2):
        checkpoint.save(path, {"x": np.full(number, number)}, {"number": number})
    found = checkpoint.load(path)
    np.testing.assert_array_equal(found.tensors["x"], [2, 2])
    assert found.metadata == {"number": 2}
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_the_file_has_the_permissions_of_any_other(tmp_path):
    path = checkpoint.save(tmp_path / "model.safetensors", {}, {})
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


# --- never half there -----------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "signal"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, step, error):
    path = checkpoint.save(tmp_path / "model.safetensors", {"x": np.arange(3)}, {"old": True})
    before = path.read_bytes()

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)):
            checkpoint.save(path, {"x": np.zeros(9)}, {"old": False})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_the_new_file_is_whole_before_it_gets_its_name(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def look(source, target):
        seen.append(checkpoint.load(source).metadata)
        assert not os.path.exists(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    checkpoint.save(tmp_path / "model.safetensors", tensors(), METADATA)
    assert seen == [METADATA]


def test_metadata_that_json_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path / "model.safetensors", {}, {"x": float("nan")})
    with pytest.raises(TypeError, match="JSON"):
        checkpoint.save(tmp_path / "model.safetensors", {}, {"x": object()})
    assert os.listdir(tmp_path) == []


def test_a_path_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        checkpoint.save(tmp_path / "file" / "model.safetensors", {}, {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        checkpoint.save(tmp_path / "folder", {}, {})
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


# --- which file -----------------------------------------------------------------------------------------------------


def run_with(run_dir, *updates):
    for update in updates:
        checkpoint.save(checkpoint.file_of(run_dir, update), {}, {"update": update})
    return run_dir


def test_files_are_named_by_update(tmp_path):
    assert checkpoint.file_of(tmp_path, 12) == tmp_path / "checkpoints" / "00012.safetensors"
    assert checkpoint.file_of(tmp_path, 1_234_567).name == "1234567.safetensors"


def test_the_newest_of_a_run_a_folder_or_the_file_itself(tmp_path):
    # by number: as text 99999 would come after 100000
    run = run_with(tmp_path, 2, 99_999, 100_000)
    others = (
        "best.safetensors",
        ".999999.safetensors.12ab.tmp",
        "999999.safetensors.superseded",
        "x300000.safetensors",
    )
    for name in (*others, ".200000.safetensors"):
        (run / "checkpoints" / name).touch()
    assert checkpoint.load(run).metadata == {"update": 100_000}
    assert checkpoint.load(run / "checkpoints").metadata == {"update": 100_000}
    assert checkpoint.load(checkpoint.file_of(run, 2)).metadata == {"update": 2}
    assert checkpoint.load(str(run)).path == checkpoint.file_of(run, 100_000)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    checkpoint.save("~/model.safetensors", {}, {"home": True})
    assert (tmp_path / "model.safetensors").is_file()
    assert checkpoint.load("~/model.safetensors").metadata == {"home": True}
    run_with(tmp_path / "run", 1)
    assert checkpoint.newest("~/run") == tmp_path / "run" / "checkpoints" / "00001.safetensors"


def test_nothing_there(tmp_path):
    missing = tmp_path / "missing"
    assert refused(missing) == f"there is no checkpoint at {missing}: no such file or directory."


@pytest.mark.parametrize("folder", [".", "checkpoints"])
def test_no_checkpoint_in_it(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "model.safetensors").touch()
    found = refused(tmp_path)
    assert found.startswith(f"there is no checkpoint in {tmp_path / folder}: expected files such as 00010.safetensors")
    assert "save_interval" in found


# --- what is in it --------------------------------------------------------------------------------------------------


def damaged(path):
    found = refused(path)
    assert found.startswith(f"the checkpoint {path} is damaged, or is no checkpoint (")
    assert found.endswith("; use another one, or train afresh.")


@pytest.mark.core
@pytest.mark.parametrize("keep", [0, 1, 8, 100, -1])
def test_truncated(tmp_path, keep):
    path = checkpoint.save(tmp_path / "model.safetensors", tensors(), METADATA)
    path.write_bytes(path.read_bytes()[:keep])
    damaged(path)


def test_bytes_added(tmp_path):
    path = checkpoint.save(tmp_path / "model.safetensors", tensors(), METADATA)
    path.write_bytes(path.read_bytes() + b"\0")
    damaged(path)


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("position", [0, 3, 7, 8, 40])
def test_bytes_of_the_header_flipped(tmp_path, position):
    path = checkpoint.save(tmp_path / "model.safetensors", tensors(), METADATA)
    flip(path, position)
    damaged(path)


def test_bytes_of_a_tensor_flipped(tmp_path):
    path = checkpoint.save(tmp_path / "model.safetensors", {"x": np.zeros(100)}, METADATA)
    flip(path, -50)
    damaged(path)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": NaN}', '{"a": 1, "a": 1}', "[" * 10_000 + "]" * 10_000])
def test_metadata_that_are_no_json_of_ours(tmp_path, text):
    damaged(saved(tmp_path / "model.safetensors", metadata=text, sha256=checkpoint.digest({"x": np.zeros(2)}, text)))


def test_the_newest_may_be_removed_while_it_is_looked_for(tmp_path, monkeypatch):
    run, read = run_with(tmp_path, 10, 20), checkpoint._read

    def remove_first(file):
        checkpoint.file_of(run, 20).unlink(missing_ok=True)  # as `keep` of a run that goes on
        return read(file)

    monkeypatch.setattr(checkpoint, "_read", remove_first)
    assert checkpoint.load(run).metadata == {"update": 10}


def test_a_damaged_checkpoint_of_a_run_names_the_one_before_it_that_is_whole(tmp_path):
    run = run_with(tmp_path / "a run", 10, 20, 30, 40)
    flip(checkpoint.file_of(run, 40), -5)
    flip(checkpoint.file_of(run, 30), 20)
    whole = checkpoint.file_of(run, 20)
    for path in (run, run / "checkpoints", checkpoint.file_of(run, 40)):
        with pytest.raises(ValueError, match="is damaged") as error:
            checkpoint.load(path)
        assert str(error.value).startswith(f"the checkpoint {checkpoint.file_of(run, 40)} is damaged")
        assert f"The one before it, {whole}, is whole" in str(error.value)
        assert f"`ppo2 resume '{whole}'`" in str(error.value)
        assert f"ppo2.load({str(whole)!r})" in str(error.value)
    assert checkpoint.load(whole).metadata == {"update": 20}
    flip(whole, -5)
    flip(checkpoint.file_of(run, 10), -5)
    damaged(checkpoint.file_of(run, 40))  # there is none


@pytest.mark.parametrize("name", ["version", "metadata"])
def test_a_header_that_lacks_something(tmp_path, name):
    damaged(saved(tmp_path / "model.safetensors", **{name: None}))


@pytest.mark.parametrize("version", ["one", "0", "-1", "1.0", "٣", "", "9" * 5000])
def test_a_version_that_is_no_number(tmp_path, version):
    damaged(saved(tmp_path / "model.safetensors", version=version))


@pytest.mark.parametrize("written_by", [None, "pt", "PPO2"])
def test_a_file_of_another_program(tmp_path, written_by):
    path = saved(tmp_path / "model.safetensors", format=written_by)
    assert (
        refused(path) == f"{path} is a safetensors file, but no checkpoint of ppo2: it was written by something else."
    )


@pytest.mark.core
def test_a_newer_version(tmp_path):
    path = saved(tmp_path / "model.safetensors", version=str(VERSION + 1), metadata="not ours to read")
    found = refused(path)
    for part in (str(path), f"format {VERSION + 1}", f"up to {VERSION}", "install a newer ppo2"):
        assert part in found


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["PPO2_TEST_TRAP"],)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A directory that appears when `Trap`'s pickle is loaded."""
    monkeypatch.setenv("PPO2_TEST_TRAP", str(tmp_path / "trap"))
    return tmp_path / "trap"


@pytest.mark.core
def test_pickles_are_refused_and_never_run(tmp_path, trap):
    garbage = pickle.dumps(Trap())
    path = tmp_path / "model.safetensors"
    path.write_bytes(garbage)
    damaged(path)
    # the same where a file that is whole could carry it: in the metadata, and as a tensor's bytes
    damaged(saved(path, metadata=garbage.decode("latin1")))
    checkpoint.save(path, {"x": np.frombuffer(garbage, np.uint8)}, {"x": garbage.decode("latin1")})
    assert checkpoint.load(path).tensors["x"].tobytes() == garbage
    assert not trap.exists()
    with pytest.raises(TypeError):
        checkpoint.save(path, {"x": np.zeros(1)}, {"x": Trap()})
    pickle.loads(garbage)  # the trap does work
    assert trap.exists()


@pytest.mark.parametrize("kind", ["npy", "npz", "zip of a pickle", "header is a pickle"])
def test_other_files_that_carry_code_are_refused_and_never_run(tmp_path, trap, kind):
    path = tmp_path / "model.safetensors"
    objects = np.array([Trap()], object)
    with path.open("wb") as file:
        if kind == "npy":
            np.save(file, objects, allow_pickle=True)
        elif kind == "npz":
            np.savez(file, x=objects)
        elif kind == "zip of a pickle":  # as PyTorch writes them
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
        else:
            garbage = pickle.dumps(Trap())
            file.write(len(garbage).to_bytes(8, "little") + garbage)
    damaged(path)
    with pytest.raises(ValueError, match="is damaged, or is no checkpoint"):
        ppo2.load(path)
    assert not trap.exists()
    if kind == "npy":
        np.load(path, allow_pickle=True)  # the trap does work
        assert trap.exists()


def test_metadata_are_json_in_the_header(tmp_path):
    path = checkpoint.save(tmp_path / "model.safetensors", {}, METADATA)
    with safetensors.safe_open(path, framework="numpy") as opened:
        header = opened.metadata()
    assert header["format"] == "ppo2"
    assert header["version"] == str(VERSION)
    assert json.loads(header["metadata"]) == METADATA


# --- files of earlier versions ------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.safetensors")), ids=lambda path: path.stem)
def test_a_file_of_each_format_loads_for_ever(path):
    """The answers of the model in it are in the .json beside it."""
    model, known = ppo2.load(path), json.loads(path.with_suffix(".json").read_text())
    obs = spaces.mapped(lambda space, part: np.array(part, space.dtype), model.observation_space, known["obs"])
    # one of the values is what is left of sums of numbers around 1: versions of JAX differ in their last bits
    np.testing.assert_allclose(model.value(obs), known["values"], rtol=1e-5, atol=5e-7)
    assert model.predict(obs)[0].tolist() == known["actions"]


def test_a_model_of_before_keeps_its_encoding(tmp_path):
    """Bytes that are no image are scaled, integers have no statistics, floats of 0 to 255 do; saved again, too."""
    old, new = (ppo2.load(GOLDEN / f"2026-11-format-{version}-parts.safetensors") for version in (2, 3))
    assert (old.encoding, new.encoding) == (1, 2)
    assert [name for name, part in old.state.normaliser.obs.items() if part is not None] == ["screen"]
    assert [name for name, part in new.state.normaliser.obs.items() if part is not None] == ["bits", "count"]
    obs = {"bits": np.ones((1, 4), np.uint8), "count": np.ones((1, 2), np.int32), "screen": np.ones((1, 3, 3, 2))}
    again = ppo2.load(old.save(tmp_path / "again.safetensors"))
    assert again.encoding == 1
    assert again.value(obs) == old.value(obs)


def test_a_model_of_before_is_trained_further_by_its_own_encoding():
    spaces_of = ppo2.load(GOLDEN / "2026-11-format-2-parts.safetensors")
    env = Spaced(spaces_of.observation_space, spaces_of.action_space)
    settings = {"env": env, "network": "mlp", "num_hidden": 4, "nsteps": 8, "normalize_obs": True, "seed": 0}
    settings |= {"normalize_rewards": True, "total_timesteps": 8}
    model = ppo2.learn(load_path=GOLDEN / "2026-11-format-2-parts.safetensors", **settings)
    assert model.encoding == 1
    assert ppo2.learn(**settings).encoding == 2


def test_there_is_a_migration_from_each_earlier_format_and_a_golden_file():
    assert list(checkpoint.MIGRATIONS) == list(range(1, VERSION))
    versions = set()
    for path in GOLDEN.glob("*.safetensors"):
        with safetensors.safe_open(path, framework="numpy") as opened:
            versions.add(int(opened.metadata()["version"]))
    assert versions >= set(checkpoint.MIGRATIONS)


def test_migrations_are_applied_step_by_step(tmp_path, monkeypatch):
    def add(word):
        return lambda metadata, tensors: ({"words": [*metadata.get("words", []), word]}, {**tensors, word: np.ones(1)})

    path = saved(tmp_path / "model.safetensors", version="1", sha256=checkpoint.digest({"x": np.zeros(2)}, "{}"))
    monkeypatch.setattr(checkpoint, "VERSION", 4)
    monkeypatch.setattr(checkpoint, "MIGRATIONS", {1: add("a"), 2: add("b"), 3: add("c")})
    found = checkpoint.load(path)
    assert found.metadata == {"words": ["a", "b", "c"]}
    assert set(found.tensors) == {"x", "a", "b", "c"}


def test_a_file_of_before_encoders_and_action_distributions():
    """Its settings have neither."""
    settings = checkpoint.load(GOLDEN / "2026-11-mlp.safetensors").section("config")
    assert not {"encoders", "action_dist", "keep"} & set(settings)


def test_the_runners_state_is_none_of_the_models(tmp_path):
    """Format 2 may hold it beside the model's."""
    model = ppo2.load(GOLDEN / "2026-11-mlp.safetensors")
    runner = {"runner/obs/0": np.zeros((4, 4), np.float32), "runner/x": np.zeros(3, np.uint8)}
    path = model.save(tmp_path / "model.safetensors", run={"runner": {"steps": [1, 2]}}, runner=runner)
    found = checkpoint.load(path)
    assert found.metadata["run"]["runner"] == {"steps": [1, 2]}
    assert set(runner) < set(found.tensors)
    np.testing.assert_array_equal(ppo2.load(path).state.params, model.state.params)


def test_what_is_written_later_is_what_was_there_when_it_was_asked_for(tmp_path):
    """Training goes on meanwhile, and is donated the arrays."""
    model = ppo2.load(GOLDEN / "2026-11-mlp.safetensors")
    before = checkpoint.load(model.save(tmp_path / "before.safetensors"))
    runner = {"runner/x": np.zeros(3)}
    write = writer(model)
    write_more = writer(model, runner=runner)
    runner["runner/x"] += 1
    for leaf in jax.tree.leaves(model.state):
        leaf.delete()
    after = checkpoint.load(write(tmp_path / "after.safetensors"))
    assert after.metadata == before.metadata
    assert set(after.tensors) == set(before.tensors)
    for name, tensor in before.tensors.items():
        np.testing.assert_array_equal(after.tensors[name], tensor)
    write_more(tmp_path / "more.safetensors")
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "more.safetensors").tensors["runner/x"], np.zeros(3))


@pytest.mark.timeout(20)
def test_a_pipe_or_a_device_is_never_waited_for(tmp_path: Path) -> None:
    """A pipe that is named, linked to, or lies where a run has its checkpoints and settings."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    pipe, link = folder / "00003.safetensors", tmp_path / "link.safetensors"
    os.mkfifo(pipe)
    os.mkfifo(folder.parent / "config.json")
    link.symlink_to(pipe)
    for path in (pipe, link, folder, folder.parent, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(ValueError, match="is no checkpoint, but a pipe, a socket or a device"):
            ppo2.load(path)
        if not path.is_dir():
            with pytest.raises(ValueError, match="is no checkpoint, but a pipe"):
                checkpoint.save(path, {}, {})
    for more in ({}, {"run_dir": folder.parent}):
        with pytest.raises(ValueError, match="is no checkpoint, but a pipe"):
            ppo2.learn(env="CartPole-v1", load_path=folder.parent, **more)
    with pytest.raises(ValueError, match=r"config\.json can't be read \(it is no regular file\)"):
        run_directory.read_config(folder.parent)


@pytest.mark.parametrize("which", ["observation_space", "action_space"])
def test_a_space_of_thousands_of_parts_is_refused_unread(which: str, tmp_path: Path) -> None:
    saved = checkpoint.load(GOLDEN / "2026-11-mlp.safetensors")
    part = {"kind": "Discrete", "n": 2, "start": 0, "dtype": "int64"}
    space = {"kind": "Dict", "spaces": {str(i): {"kind": "Tuple", "spaces": [part] * 99} for i in range(99)}}
    path = checkpoint.save(tmp_path / "large.safetensors", saved.tensors, {**saved.metadata, which: space})
    with pytest.raises(ValueError, match="more than 1,000 parts"):
        ppo2.load(path)


@pytest.mark.parametrize(("path", "error"), [(3, TypeError), (None, TypeError), ("", ValueError), ("a\0b", ValueError)])
def test_what_is_no_path(path, error):
    for call in (lambda: checkpoint.load(path), lambda: checkpoint.save(path, {}, {})):
        with pytest.raises(error, match=r"`path` \(=.*\) must "):
            call()


def test_a_directory_is_no_file_to_write(tmp_path):
    with pytest.raises(OSError, match=r"is a directory: name a file, such as .*model\.safetensors"):
        checkpoint.save(tmp_path, {}, {})
    assert not list(tmp_path.iterdir())

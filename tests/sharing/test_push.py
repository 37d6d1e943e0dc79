"""Pushing runs to the Hugging Face Hub and loading them from there, against a stand-in of its HTTP interface."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.checkpoints import checkpoint
from ppo2.sharing.push import push
from support.hub import Hub, running
from support.runs import SMALL, learn_and_save, params

pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
REPO = "someone/cartpole"


def forget_client() -> None:
    """It reads its settings when it is imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        del sys.modules[name]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running() as found:
        for name, value in {
            "HF_ENDPOINT": found.url,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_TOKEN": "hf_stand_in",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }.items():
            monkeypatch.setenv(name, value)
        forget_client()
        yield found
    forget_client()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run directory, and its model."""
    path = tmp_path_factory.mktemp("run") / "x"
    return path, learn_and_save(run_dir=path)


def test_a_run_that_was_pushed_is_loaded_elsewhere(hub: Hub, run: tuple[Path, Any]) -> None:
    path, model = run
    assert push(path, REPO) == f"{hub.url}/{REPO}"
    assert set(hub.repos[REPO]) == {
        *("README.md", "config.json", "progress.csv", "monitor.csv", "curve.png"),
        "checkpoints/00006.safetensors",
    }
    loaded = ppo2.load(f"hf://{REPO}")
    np.testing.assert_array_equal(params(loaded), params(model))
    fine_tuned = ppo2.learn(**{**SMALL, "total_timesteps": 0, "load_path": f"hf://{REPO}"})
    np.testing.assert_array_equal(params(fine_tuned), params(model))


def test_the_card_is_a_persons_if_one_wrote_it(hub: Hub, run: tuple[Path, Any], tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir()
    for name in ("config.json", "monitor.csv", "progress.csv"):
        (path / name).write_bytes((run[0] / name).read_bytes())
    (path / "checkpoints").mkdir()
    file = path / "checkpoints" / "00006.safetensors"
    file.write_bytes((run[0] / "checkpoints" / file.name).read_bytes())
    (path / "README.md").write_text("mine\n")
    push(path, REPO, private=True)
    assert hub.repos[REPO]["README.md"] == b"mine\n"
    assert hub.private == {REPO}
    push(file, "someone/alone")
    assert set(hub.repos["someone/alone"]) == {"README.md", "model.safetensors"}
    assert "No episodes are known" in hub.repos["someone/alone"]["README.md"].decode()
    np.testing.assert_array_equal(params(ppo2.load("hf://someone/alone/model.safetensors")), params(run[1]))


def test_what_was_changed_on_the_way_is_refused(hub: Hub, run: tuple[Path, Any]) -> None:
    """The cache is looked at too, not only what arrives."""
    push(run[0], REPO)
    ppo2.load(f"hf://{REPO}")
    (cached,) = Path(sys.modules["huggingface_hub"].constants.HF_HUB_CACHE).rglob("00006.safetensors")
    content = bytearray(cached.read_bytes())
    content[-1] ^= 1
    cached.resolve().write_bytes(content)
    with pytest.raises(ValueError, match=r"isn't what the Hugging Face Hub has .*remove .* and load it again"):
        ppo2.load(f"hf://{REPO}")


def test_without_a_connection_the_copy_is_taken(hub: Hub, run: tuple[Path, Any]) -> None:
    push(run[0], REPO)
    ppo2.load(f"hf://{REPO}")
    hub.shutdown()
    hub.server_close()
    forget_client()  # with its open connections
    with pytest.warns(UserWarning, match=r"can't be reached .* the copy downloaded before is taken"):
        loaded = ppo2.load(f"hf://{REPO}")
    np.testing.assert_array_equal(params(loaded), params(run[1]))
    with pytest.raises(OSError, match=r"can't be reached .* and no copy is here"):
        ppo2.load("hf://someone/else")
    with pytest.raises(OSError, match=r"can't be reached .*: push someone/cartpole again later"):
        push(run[0], REPO)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("hf://someone/missing", "no repository 'someone/missing', or you may not use it"),
        ("hf://someone", "must be of the form hf://user/name"),
        (f"hf://{REPO}@other", "no repository 'someone/cartpole' at revision 'other'"),
        (f"hf://{REPO}/none.safetensors", "has no file 'none.safetensors'; it has"),
        ("hf://someone/empty", "has no checkpoint of ppo2; it has no file"),
    ],
)
def test_addresses_of_what_is_not_there(hub: Hub, run: tuple[Path, Any], address: str, text: str) -> None:
    push(run[0], REPO)
    hub.repos["someone/empty"] = {}
    with pytest.raises(ValueError, match=text):
        ppo2.load(address)


def test_a_repository_that_may_not_be_written(hub: Hub, run: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(ValueError, match="log in by `hf auth login`"):
        push(run[0], REPO)
    with pytest.raises(ValueError, match=r"`repo` \(='cartpole'\) must be of the form user/name"):
        push(run[0], "cartpole")
    with pytest.raises(ValueError, match="there is no checkpoint at"):
        push("nowhere", REPO)
    assert not hub.repos


def test_nothing_is_saved_to_an_address(run: tuple[Path, Any]) -> None:
    with pytest.raises(ValueError, match="is an address, where nothing can be saved"):
        run[1].save("hf://someone/cartpole")


def test_the_card_has_what_the_hub_reads(run: tuple[Path, Any]) -> None:
    from ppo2.reporting import card

    text = card.of_run(run[0])
    entries = dict(line.split(": ", 1) for line in text.split("---\n")[1].splitlines())
    assert json.loads(entries["library_name"]) == "ppo2"
    (result,) = json.loads(entries["model-index"])[0]["results"]
    assert result["dataset"] == {"name": "CartPole-v1", "type": "CartPole-v1"}
    assert result["metrics"][0]["type"] == "mean_reward"
    assert checkpoint.newest(run[0]).is_file()
    assert "ppo2 train CartPole-v1" in text


def test_secrets_of_an_older_run_are_not_uploaded(hub: Hub, run: tuple[Path, Any], tmp_path: Path) -> None:
    path = tmp_path / "x"
    shutil.copytree(run[0], path)
    config = json.loads((path / "config.json").read_text())
    config["log_options"] = {"mlflow": {"tracking_uri": "https://me:secret@host"}}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"holds what looks like a secret: log_options\.mlflow\.tracking_uri\. Nothing is"
    ):
        push(path, REPO)
    assert not hub.repos

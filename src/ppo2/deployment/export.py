"""`ppo2.export`: a policy as files for other programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ppo2
from ppo2 import spaces
from ppo2.agent.loading import load
from ppo2.agent.model import Model
from ppo2.config import is_placeholder
from ppo2.deployment import npz_file, onnx_file, stablehlo
from ppo2.deployment.comparison import Comparison, compare
from ppo2.deployment.examples import Example, random_examples, record, recorded_examples
from ppo2.deployment.graph import Graph
from ppo2.deployment.policy_function import Act, Argument, PolicyFunction, in_order
from ppo2.deployment.policy_graph import policy_graph
from ppo2.evaluation.evaluate import kwargs_for
from ppo2.numerics.compilation import transfers_allowed
from ppo2.system import files
from ppo2.system.calls import told_plainly


class ExportedFile(NamedTuple):
    """A file that was written.

    Attributes:
        format: "onnx", "stablehlo" or "numpy".
        inputs, outputs: shapes, of one observation's part, and dtypes, by name.
        random, recorded: the comparisons with `Model.predict`; `recorded` is None where no environment was stepped.
        unrecorded: the reason why none was, else "".
    """

    path: Path
    format: str
    inputs: Mapping[str, Argument]
    outputs: Mapping[str, Argument]
    random: Comparison
    recorded: Comparison | None
    unrecorded: str


@told_plainly("ppo2.export('runs/x', onnx='policy.onnx')")
@transfers_allowed
def export(
    model: Model | str | Path,
    *,
    onnx: str | Path | None = None,
    stablehlo: str | Path | None = None,
    numpy: str | Path | None = None,
    env: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> list[ExportedFile]:
    """Writes the policy as files that other programs act with: from observations as the environment gives them to
    actions as it takes them, with normaliser, masks and recurrent state (see docs/export.md).

    Each file acts as `Model.predict` does, on random observations and on some recorded from the environment, before any
    is written.

    Args:
        model: from `learn` or `load`; or what `load` takes, a run directory or a checkpoint.
        onnx: file for ONNX, for runtimes in any language; needs the extra [onnx].
        stablehlo: file of `jax.export`, for programs with JAX.
        numpy: .npz file for NumPy alone; the reader, npz_policy.py, is written beside it.
        env: environment to record observations from, in any form that `learn` takes; None: the one trained on, if it
            can be made.
        env_kwargs: see `ppo2.evaluate`.

    Raises:
        ValueError: no file is asked for, the extra isn't installed, the network does something that can't be
            translated, or the file doesn't act as the model.
    """
    wanted = {"onnx": onnx, "stablehlo": stablehlo, "numpy": numpy}
    paths = {name: Path(path).expanduser() for name, path in wanted.items() if path is not None}
    _check(paths)
    made = model if isinstance(model, Model) else load(model, device="cpu")
    function = PolicyFunction(made)
    graph = policy_graph(function) if set(paths) - {"stablehlo"} else None
    at_random = list(random_examples(function))
    recorded, unrecorded = _recorded(function, env, env_kwargs)
    contents, written = {}, []
    for name, path in paths.items():
        contents[path], act = _made(name, function, graph)
        exact = name != "stablehlo"
        random = compare(act, made, at_random, "random observations", exact_types=exact)
        found = compare(act, made, recorded, "recorded observations", exact_types=exact) if recorded else None
        inputs = function.inputs if exact else function.on_device
        outputs = {name: Argument(x.shape[1:], x.dtype) for name, x in in_order(act(at_random[0].inputs)).items()}
        written.append(ExportedFile(path, name, inputs, outputs, random, found, unrecorded))
        if name == "numpy":
            contents[path.with_name(npz_file.READER.name)] = npz_file.READER.read_bytes()
    for path, content in contents.items():  # all are right
        files.replace(path, content)
    return written


def _check(paths: Mapping[str, Path]) -> None:
    """Raises ValueError for files that can't be written, before anything is done."""
    if not paths:
        raise ValueError(
            "nothing to export: name a file with `onnx`, `numpy` or `stablehlo`, as in --onnx policy.onnx."
        )
    if len(set(paths.values())) < len(paths):
        raise ValueError(f"`{'`, `'.join(paths)}` name one file twice: each needs its own.")
    for name, path in paths.items():
        if path.is_dir():
            raise ValueError(f"`{name}` (={str(path)!r}) is a folder: name a file, such as {path / f'policy.{name}'}.")
    if "onnx" in paths:
        onnx_file.check_installed()


def _made(name: str, function: PolicyFunction, graph: Graph | None) -> tuple[bytes, Act]:
    """A file's content, and the policy in it."""
    if graph is None or name == "stablehlo":
        content = stablehlo.stablehlo_bytes(function)
        return content, stablehlo.stablehlo_act(content, function)
    if name == "numpy":
        content = npz_file.npz_bytes(graph, metadata(function.model))
        return content, npz_file.npz_act(content)
    content = onnx_file.onnx_bytes(graph, metadata(function.model))
    return content, onnx_file.onnx_act(content)


def metadata(model: Model) -> dict[str, str]:
    """Texts that a file keeps about the policy."""
    config = model.config
    named = {name: getattr(config, name) for name in ("env", "network", "action_dist", "precision", "seed")}
    described: dict[str, Any] = {
        "observation_space": spaces.describe(model.observation_space),
        "action_space": spaces.describe(model.action_space),
    }
    texts = {name: str(value) for name, value in named.items() if isinstance(value, str | int)}
    return {"ppo2": ppo2.__version__, **texts, **{name: json.dumps(value) for name, value in described.items()}}


def _recorded(function: PolicyFunction, env: Any, env_kwargs: Mapping[str, Any] | None) -> tuple[list[Example], str]:
    """Examples of the environment that was asked for, or of the one trained on; or why there are none."""
    model, asked = function.model, env is not None or env_kwargs is not None
    env = model.config.env if env is None else env
    if env is None or is_placeholder(env) or not (asked or isinstance(env, str)):
        return [], "the environment was given as an object; pass `env` to check with observations of it"
    try:
        recording = record(model, env, kwargs_for(model, env, env_kwargs))
        return list(recorded_examples(function, recording)), ""
    except Exception as error:
        if asked:
            raise
        return [], f"{env} gave no observations ({str(error).partition(chr(10))[0]})"

"""Files that others might have made of a checkpoint: damaged, or made to deceive. Deterministic, by seed.

As a program, in a process of its own that may take little memory: `python mutations.py RUN FIRST COUNT` loads so many
of them, of the newest checkpoint and the settings of a run, and tells of each as a line of JSON.
"""

import copy
import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ppo2.checkpoints import checkpoint

ROOM = 2**30
"""Bytes that the process may take on top of what it has when it begins."""

NESTED: Any = None
for _ in range(40):
    NESTED = [NESTED]

VALUES: list[Any] = [
    None, True, -1, 0, 1, 10**9, 10**12, 10**30, -(10**18), 2**63, 1e300, -0.5, 1e-320, [10**9] * 3,
    "", "x" * 10_000, "\x1b[2J[red]", "../../../etc/passwd", "/etc/passwd", "a\0b",
    [], {}, [[]], {"": None}, {"object": "x"}, {"object": ["x"]}, NESTED,
    "nan", "linear:1e308", "mlp", "lstm", "cnn", "copy", "O", "(1000000,1000000)f8", "i4,f8", "float64", "Dict",
]  # fmt: skip
NAMES = [
    "../../evil",
    "/etc/passwd",
    "a\0b",
    "",
    "x" * 5000,
    "params/../key",
    "runner/x",
    "__metadata__x",
    "\x1b[2J",
    "params",
]

LIES: list[tuple[tuple[str, ...], Any]] = [
    (("config", "nsteps"), 10**12),
    (("config", "num_envs"), 10**12),
    (("config", "nminibatches"), 999_999_999_989),
    (("config", "total_timesteps"), 10**30),
    (("config", "seed"), 10**40),
    (("config", "network_kwargs"), {"num_hidden": 10**9}),
    (("config", "network_kwargs"), {"num_hidden": 10**18}),
    (("config", "network_kwargs"), {"num_layers": 10**9}),
    (("config", "network_kwargs"), {"num_layers": 100, "num_hidden": 10**5}),
    (("config", "network_kwargs"), {"env": "x", "run_dir": "/", "num_hidden": 8}),
    (("config", "network"), "lstm"),
    (("config", "network_kwargs"), [["num_hidden", 3]]),
    (("config", "model_fn"), "os.system"),
    (("config", "encoders"), {"x": "mlp"}),
    (("config", "env"), "\x1b[2J[red]"),
    (("observation_space",), {"kind": "Box", "low": 0, "high": 1, "shape": [10**6, 10**6], "dtype": "float32"}),
    (("observation_space",), {"kind": "Box", "low": 0, "high": 1, "shape": [2**25], "dtype": "uint8"}),
    (("observation_space",), {"kind": "Box", "low": 0, "high": 1, "shape": [2**22], "dtype": "float64"}),
    (("observation_space",), {"kind": "Box", "low": 0, "high": 1, "shape": [-1, -1], "dtype": "float32"}),
    (("observation_space",), {"kind": "Box", "low": 0, "high": 1, "shape": [0, 10**18], "dtype": "float32"}),
    (("observation_space",), {"kind": "Box", "low": 0, "high": 1, "shape": [4], "dtype": "(1000000000,)f8"}),
    (("observation_space",), {"kind": "Box", "low": [0] * 3, "high": 1, "shape": [4], "dtype": "float32"}),
    (("observation_space",), {"kind": "Discrete", "n": 10**12, "start": 0, "dtype": "int64"}),
    (("observation_space",), {"kind": "MultiDiscrete", "nvec": [10**9] * 9, "start": [0] * 9, "dtype": "int64"}),
    (("observation_space",), {"kind": "MultiBinary", "shape": [10**12]}),
    (("observation_space",), {"kind": "Tuple", "spaces": [{"kind": "MultiBinary", "shape": [2**23]}] * 9}),
    (("observation_space",), {"kind": "Dict", "spaces": {"a/b": {"kind": "MultiBinary", "shape": [4]}}}),
    (("action_space",), {"kind": "Discrete", "n": 10**12, "start": 0, "dtype": "int64"}),
    (("action_space",), {"kind": "MultiDiscrete", "nvec": [10**9] * 9, "start": [0] * 9, "dtype": "int64"}),
    (("action_space",), {"kind": "Box", "low": "-inf", "high": "inf", "shape": [2**23], "dtype": "float32"}),
    (("key_impl",), "rbg"),
    (("run",), {"update": 10**18, "rollouts": -1, "seconds": "now", "episodes": [], "best": 3}),
    (("run", "update"), 10**30),
    (("run", "best"), {"update": 3, "eval_eprewmean": "high"}),
    (("run", "runner"), {"envs": 10**9}),
]  # fmt: skip

Made = tuple[str, bytes]


# --- raw: bytes are changed, and so the checksum fails, if nothing does before


def _cut(rng: random.Random, data: bytes) -> Made:
    return "cut", data[: rng.randrange(len(data))]


def _flipped(rng: random.Random, data: bytes) -> Made:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 10, 1000])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return "flipped", bytes(changed)


def _flipped_header(rng: random.Random, data: bytes) -> Made:
    changed = bytearray(data)
    changed[rng.randrange(8 + int.from_bytes(data[:8], "little"))] ^= 1 << rng.randrange(8)
    return "flipped header", bytes(changed)


def _moved(rng: random.Random, data: bytes) -> Made:
    a, b, size = rng.randrange(len(data)), rng.randrange(len(data)), rng.choice([1, 8, 100, 4096])
    return "moved", data[:a] + data[b : b + size] + data[a + rng.choice([0, size]) :]


def _length(rng: random.Random, data: bytes) -> Made:
    length = rng.choice([0, 1, 7, 2**20, 2**31, 2**32 + 1, 10**8, 2**60, 2**63, 2**64 - 1, len(data), len(data) - 8])
    return f"header of {length} bytes", length.to_bytes(8, "little") + data[8:]


def _declared(rng: random.Random, data: bytes) -> Made:
    """Other sizes, places, dtypes and names in the header than those of what follows."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    name = rng.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    what = rng.choice(["shape", "offsets", "dtype", "overlap", "both", "name", "twice", "deep"])
    huge = rng.choice([10**6, 2**31, 2**40, 2**62, 2**63, 2**64 - 1, -1])
    if what in ("shape", "both"):
        entry["shape"] = rng.choice([[huge], [huge, huge], [2**32, 2**32], [0, huge], [], [1] * 10_000])
    if what in ("offsets", "both"):
        entry["data_offsets"] = rng.choice([[0, huge], [huge, huge], [8, 0], [0], [0, 1, 2], "x", [0.5, 1]])
    if what == "dtype":
        entry["dtype"] = rng.choice(["F64", "F16", "BF16", "U8", "BOOL", "F8_E4M3", "F4", "O", "", None, 3])
    if what == "overlap":
        entry["data_offsets"] = header[rng.choice([other for other in header if other != "__metadata__"])][
            "data_offsets"
        ]
    if what == "name":
        header[rng.choice(NAMES)] = header.pop(name)
    text = json.dumps(header)
    if what == "twice":
        text = text[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}}}"
    if what == "deep":
        text = text[:-1] + ', "x": ' + "[" * 10_000 + "]" * 10_000 + "}"
    return f"declared {what} of {name}", len(text.encode()).to_bytes(8, "little") + text.encode() + body


RAW: list[Callable[[random.Random, bytes], Made]] = [_cut, _flipped, _flipped_header, _moved, _length, _declared]


# --- signed: the content is changed, and the checksum fits


def signed(metadata: str, tensors: checkpoint.Tensors, version: str = str(checkpoint.VERSION)) -> bytes:
    header = {
        "format": checkpoint.FORMAT,
        "version": version,
        "metadata": metadata,
        "sha256": checkpoint.digest(tensors, metadata),
    }
    data: bytes = safetensors.numpy.save(tensors, header)
    return data


def _signed_tensors(rng: random.Random, metadata: dict[str, Any], tensors: checkpoint.Tensors) -> Made:
    a, b = rng.sample(sorted(tensors), 2)
    what = rng.choice(["lost", "named", "flat", "wide", "cast", "swapped", "filled", "more", "none", "empty"])
    x = tensors[a]
    if what == "lost":
        del tensors[a]
    elif what == "named":
        tensors[rng.choice(NAMES)] = tensors.pop(a)
    elif what == "flat":
        tensors[a] = x.reshape(-1)
    elif what == "wide":
        tensors[a] = np.zeros(rng.choice([(10**6,), (1000, 1000), (0,), (1,) * 20]), x.dtype)
    elif what == "cast":
        tensors[a] = x.astype(rng.choice(["float64", "float16", "int32", "uint8", "bool"]))
    elif what == "swapped":
        tensors[a], tensors[b] = tensors[b], x
    elif what == "filled":
        tensors[a] = np.full_like(x, rng.choice([0, 1]) if x.dtype.kind != "f" else rng.choice([np.nan, np.inf, -1e38]))
    elif what == "more":
        tensors[rng.choice(NAMES)] = np.zeros(3)
    elif what == "none":
        tensors.clear()
    else:
        tensors[a] = np.zeros(0, x.dtype)
    return f"{what} {a}", signed(json.dumps(metadata), tensors)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(*path, key), *_places(item, (*path, key))]]


def changed(rng: random.Random, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Another value somewhere in a JSON object."""
    value = copy.deepcopy(value)
    path = rng.choice(_places(value))
    parent: Any = value
    for key in path[:-1]:
        parent = parent[key]
    what = rng.choice(["set", "set", "set", "set", "lost", "key"])
    if what == "set":
        parent[path[-1]] = rng.choice(VALUES)
    elif what == "lost" or isinstance(parent, list):
        del parent[path[-1]]
    else:
        parent[rng.choice(NAMES)] = parent.pop(path[-1])
    return f"{what} {'.'.join(map(str, path))}: {str(parent)[:80]!r}", value


def lied(rng: random.Random, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """One of `LIES` told."""
    value = copy.deepcopy(value)
    path, lie = rng.choice([one for one in LIES if one[0][0] in value])
    parent = value
    for key in path[:-1]:
        parent = parent.setdefault(key, {})
    parent[path[-1]] = lie
    return f"{'.'.join(path)} = {str(lie)[:80]!r}", value


def _signed_metadata(rng: random.Random, metadata: dict[str, Any], tensors: checkpoint.Tensors) -> Made:
    what, metadata = rng.choice([changed, lied])(rng, metadata)
    return what, signed(json.dumps(metadata), tensors)


def _signed_text(rng: random.Random, metadata: dict[str, Any], tensors: checkpoint.Tensors) -> Made:
    """JSON that nobody writes."""
    text = json.dumps(metadata)
    what, text = rng.choice(
        [
            ("twice", text[:-1] + ', "config": {}}'),
            ("NaN", text.replace('"gamma": 0.99', '"gamma": NaN')),
            ("infinite", text.replace('"gamma": 0.99', '"gamma": 1e999')),
            ("long number", text.replace('"seed": ', '"seed": 1' + "0" * rng.choice([400, 5000]))),
            ("deep", text[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"),
            ("rather deep", text[:-1] + ', "x": ' + '{"a": ' * 900 + "1" + "}" * 900 + "}"),
            ("no object", json.dumps([metadata])),
            ("cut", text[: rng.randrange(len(text))]),
            ("no text", rng.choice(["", "null", "\0", "\ud7ff", "cos\nsystem\n(S'true'\ntR."])),
        ]
    )
    return what, signed(text, tensors)


def _signed_version(rng: random.Random, metadata: dict[str, Any], tensors: checkpoint.Tensors) -> Made:
    version = rng.choice(["0", "1", "4", "-1", "99999999999999999999", "9" * 5000, "٢", "", "1.0", "two"])
    return f"version {version[:20]}", signed(json.dumps(metadata), tensors, version)


SIGNED = [_signed_tensors, _signed_metadata, _signed_metadata, _signed_metadata, _signed_text, _signed_version]


def mutation(data: bytes, seed: int) -> tuple[str, bytes]:
    """The name of a change to a checkpoint, and the changed file; raw changes have an even seed."""
    rng = random.Random(seed)
    if seed % 2 == 0:
        return rng.choice(RAW)(rng, data)
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["metadata"])
    return rng.choice(SIGNED)(rng, metadata, dict(safetensors.numpy.load(data)))


# --- as a program


def main(run: Path, first: int, count: int) -> None:
    import contextlib
    import io
    import resource

    import ppo2
    from ppo2.checkpoints import tensors
    from ppo2.checkpoints.progress import Progress
    from ppo2.cli import main as command
    from ppo2.cli import train

    whole = checkpoint.newest(run)
    data, settings = whole.read_bytes(), json.loads((run / "config.json").read_text())
    ppo2.load(whole)  # what is compiled once
    train._learn = lambda *_, **__: 0
    place = run.parent / f"mutated-{first}"  # other calls change copies of the same run
    shutil.copytree(run, place)
    file = place / "checkpoints" / whole.name
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    for seed in range(first, first + count):
        what, changed_data = mutation(data, seed)
        file.write_bytes(changed_data)
        began, came = time.process_time(), "loaded"
        try:
            model = ppo2.load(file)
            saved = checkpoint.load(file)
            Progress.of(saved)
            for name, tensor in tensors.to_tensors(model.state, model.unravel).items():
                if tensor.tobytes() != saved.tensors[name].tobytes():
                    came = f"another {name}"
            if seed % 2 == 0 and changed_data != data and not _only_the_header_differs(changed_data, data):
                came = "loaded, although damaged"
        except ValueError as error:
            came = "refused" if str(file) in str(error) else f"refused by another: {error!r}"
        except BaseException as error:
            came = f"{type(error).__name__}: {error}"
        told = {"seed": seed, "what": what, "came": came, "seconds": time.process_time() - began}
        print(json.dumps(told), flush=True)
        if seed % 5 == 0:  # the same on the command line, where the settings beside it are read too
            file.write_bytes(changed_data if seed % 2 else data)
            rng = random.Random(seed)
            what, more = rng.choice([changed, lied])(rng, {"config": settings})
            (place / "config.json").write_text(json.dumps(more.get("config")))
            began, said = time.process_time(), io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                status = command(["resume", str(place)])
            came = "refused" if status == 1 and "--debug" not in said.getvalue() else f"exit {status}"
            came = "loaded" if status == 0 else came + ("" if came == "refused" else f": {said.getvalue()}")
            told = {"seed": seed, "what": f"resume {what}", "came": came, "seconds": time.process_time() - began}
            print(json.dumps(told), flush=True)


def _only_the_header_differs(one: bytes, other: bytes) -> bool:
    """Such as in white space, or in a name's spelling as JSON: the same tensors and metadata all the same."""
    a, b = safetensors.numpy.load(one), safetensors.numpy.load(other)
    return set(a) == set(b) and all(a[name].tobytes() == b[name].tobytes() for name in a)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

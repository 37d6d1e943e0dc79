"""examples/c turns a policy into plain C, which acts as the model does and plays CartPole."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ppo2
from ppo2.deployment.npz_policy import Policy
from support.policies import CASES, untrained
from support.runs import learn

EXAMPLE = Path(__file__).parents[2] / "examples" / "c"
COMPILER = shutil.which("cc")

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler"),
    pytest.mark.usefixtures("quickly_compiled"),
]

MAIN = """
#include <stdio.h>
#include "policy.h"
int main(void) {{
  {declared}
  policy({arguments});
  {printed}
  return 0;
}}
"""


def compiled(folder, source):
    """The output of a C program that includes policy.h of a folder."""
    header = subprocess.run(
        [sys.executable, EXAMPLE / "generate.py", "policy.npz"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert header.returncode == 0, header.stderr
    (folder / "policy.h").write_text(header.stdout)
    command = [
        "cc",
        "-O1",
        "-std=c99",
        "-Wall",
        "-Wno-parentheses",
        "-Werror",
        "-I",
        folder,
        source,
        "-lm",
        "-o",
        folder / "program",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return subprocess.run([folder / "program"], capture_output=True, text=True, check=True).stdout


def test_the_example_plays(tmp_path):
    ppo2.export(learn(), numpy=tmp_path / "policy.npz")
    lengths = [int(line) for line in compiled(tmp_path, EXAMPLE / "cartpole.c").split()]
    assert len(lengths) == 3
    assert all(8 <= length <= 500 for length in lengths)


@pytest.mark.parametrize("case", ["discrete", "gaussian", "squashed", "lnlstm", "gru", "masked", "masked parts"])
def test_it_computes_what_the_model_does(case, tmp_path):
    (file,) = ppo2.export(untrained(**CASES[case]), numpy=tmp_path / "policy.npz")
    policy, rng = Policy(tmp_path / "policy.npz"), np.random.default_rng(0)
    inputs = {
        name: (rng.normal(size=(1, *of.shape)) if of.dtype.kind == "f" else rng.integers(0, 2, (1, *of.shape))).astype(
            of.dtype
        )
        for name, of in file.inputs.items()
    }
    outputs = policy(inputs)
    kinds = {"float32": "float", "float64": "double", "float16": "float", "bool": "unsigned char"}

    def declared(name, x):
        kind = kinds.get(str(x.dtype), f"{x.dtype}_t")
        numbers = ", ".join(float(n).hex() if x.dtype.kind == "f" else str(int(n)) for n in x.ravel())
        return f"{kind} {name.replace('.', '_')}[{x.size}] = {{{numbers}}};"

    zeros = {name: np.zeros_like(x) for name, x in outputs.items()}
    names = [name.replace(".", "_") for name in (*inputs, *outputs)]
    printed = [
        f'for (int i = 0; i < {x.size}; i++) printf("%.9g ", (double){name.replace(".", "_")}[i]);'
        for name, x in outputs.items()
    ]
    (tmp_path / "main.c").write_text(
        MAIN.format(
            declared="\n  ".join(declared(name, x) for name, x in (inputs | zeros).items()),
            arguments=", ".join(names),
            printed="\n  ".join(printed),
        )
    )
    found = [float(x) for x in compiled(tmp_path, tmp_path / "main.c").split()]
    np.testing.assert_allclose(found, np.concatenate([x.ravel() for x in outputs.values()]), rtol=1e-5, atol=1e-5)

"""Graphs as .npz files, which `ppo2.deployment.npz_policy` computes with NumPy alone."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppo2.deployment import npz_policy
from ppo2.deployment.graph import Graph, Tensor
from ppo2.deployment.policy_function import Act
from ppo2.deployment.translator import NotExportableError

READER = Path(npz_policy.__file__)
"""The reader, a file that needs nothing of ours."""


def npz_bytes(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    """The content of an .npz file: the constants, and `about`: the nodes, inputs and outputs as JSON.

    Raises:
        NotExportableError: the reader doesn't know one of the operators.
    """
    unknown = {node.operator for node in graph.nodes} - set(npz_policy.OPERATORS)
    if unknown:
        raise NotExportableError(f"`numpy`: its reader doesn't know {', '.join(sorted(unknown))}; export to ONNX.")
    about = {
        "metadata": dict(metadata),
        "inputs": _described(graph.inputs),
        "outputs": _described(graph.outputs),
        "nodes": [[node.operator, node.inputs, *node.outputs, dict(node.attributes)] for node in graph.nodes],
    }
    content = io.BytesIO()
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about, default=int).encode(), np.uint8)}
    np.savez(content, **arrays | graph.constants)
    return content.getvalue()


def _described(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        name: {
            "dtype": tensor.dtype.name,
            "shape": [size if isinstance(size, int) else str(size) for size in tensor.shape],
        }
        for name, tensor in tensors.items()
    }


def npz_act(content: bytes) -> Act:
    """The policy in an .npz file."""
    return npz_policy.Policy(io.BytesIO(content))

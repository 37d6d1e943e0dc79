"""Graphs as ONNX files, and ONNX files that act."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from ppo2.deployment.graph import OPSET, Graph, Tensor
from ppo2.deployment.policy_function import Act, Named
from ppo2.system.text import install_command

IR_VERSION = 8
"""Version of the file format that belongs to OPSET."""
PRODUCER = "ppo2"


def check_installed() -> None:
    """Raises ValueError where onnx or onnxruntime, which checks the file, is missing."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"`onnx` needs {' and '.join(missing)}: {install_command('onnx')}.")


def onnx_bytes(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    """The content of an ONNX file.

    Args:
        metadata: texts to keep in it, by name.
    """
    import onnx
    from onnx import helper, numpy_helper

    def declared(tensor: Tensor) -> Any:
        shape = [size if isinstance(size, int) else str(size) for size in tensor.shape]
        return helper.make_tensor_value_info(tensor.name, helper.np_dtype_to_tensor_dtype(tensor.dtype), shape)

    def attributes(of: Mapping[str, Any]) -> dict[str, Any]:
        return {**of, "to": _dtype(of["to"])} if "to" in of else dict(of)

    made = helper.make_graph(
        [helper.make_node(n.operator, n.inputs, n.outputs, **attributes(n.attributes)) for n in graph.nodes],
        "policy",
        [declared(tensor) for tensor in graph.inputs.values()],
        [declared(tensor) for tensor in graph.outputs.values()],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _dtype(name: str) -> int:
    from onnx import TensorProto

    names = {"float32": "FLOAT", "float64": "DOUBLE"}
    number: int = getattr(TensorProto, names.get(name, name.upper()))
    return number


def onnx_act(content: bytes) -> Act:
    """The policy in an ONNX file, in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = {one.name for one in session.get_inputs()}

    def act(inputs: Named) -> Named:
        given = {name: np.ascontiguousarray(array) for name, array in inputs.items() if name in expected}
        return dict(zip(names, session.run(None, given), strict=True))

    return act

"""A model's policy as a graph of ONNX operators, from the environment's observations to its actions."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ppo2.deployment.graph import Graph, Tensor
from ppo2.deployment.loops import LOOPS
from ppo2.deployment.policy_function import Named, PolicyFunction, in_order, symbolic
from ppo2.deployment.products import PRODUCTS
from ppo2.deployment.translations import TRANSLATIONS
from ppo2.deployment.translator import Translator
from ppo2.numerics.compilation import portable
from ppo2.numerics.precision import products
from ppo2.numerics.traced import Traced


def policy_graph(function: PolicyFunction) -> Graph:
    """The policy's graph, for a batch of any size.

    Raises:
        NotExportableError: the network does something for which there is no operator here.
    """
    state = function.model.state
    (batch,) = jax.export.symbolic_shape("batch")
    given = symbolic(function.inputs, batch)
    tensors = {name: Tensor(name, one.shape, np.dtype(one.dtype)) for name, one in given.items()}
    graph = Graph(list(tensors.values()))
    translator = Translator(graph, TABLE)

    def added(step: Callable[[Any, Any], Any], learned: Any, inputs: Any) -> Any:
        """Adds a function of what was learned and of inputs; returns where its outputs are."""
        fixed = jax.eval_shape(lambda x: x, learned)
        varying = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), inputs, is_leaf=_is_tensor)
        traced = Traced(step, fixed, varying)
        found = translator.run(traced, learned, jax.tree.leaves(inputs, is_leaf=_is_tensor))
        return jax.tree.unflatten(traced.result, found)

    with portable(), products():
        with jax.enable_x64(True):  # as the environment's numbers may have 64 bits
            narrowed: Named = added(lambda _, inputs: function.narrowed(inputs), (), tensors)
        actions, outputs = added(function.decided, (state.params, state.normaliser), narrowed)
        with jax.enable_x64(True):
            named = added(lambda _, actions: function.actions(actions), (), actions)
    graph.finish(in_order({**named, **outputs}))
    return graph


TABLE = {**TRANSLATIONS, **PRODUCTS, **LOOPS}


def _is_tensor(x: object) -> bool:
    return isinstance(x, Tensor)

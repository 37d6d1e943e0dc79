"""The numbers of an update."""

from typing import TYPE_CHECKING, Any, Self

import jax


@jax.tree_util.register_pytree_node_class
class Hyperparameters:
    """The numbers of an update by name, such as `hyper.lr`; None switches a thing off for good.

    They are traced, so that changing one never recompiles a program. `ppo2.config` says which there are: every setting
    that is marked as traced.
    """

    def __init__(self, **numbers: Any) -> None:
        self.__dict__.update(numbers)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def _replace(self, **numbers: Any) -> Self:
        """A copy with other numbers."""
        return type(self)(**self.__dict__ | numbers)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        """The numbers and their names, for JAX."""
        return tuple(self.__dict__.values()), tuple(self.__dict__)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], numbers: tuple[Any, ...]) -> Self:
        """The inverse of `tree_flatten`."""
        return cls(**dict(zip(names, numbers, strict=True)))

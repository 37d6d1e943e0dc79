"""Whole numbers, Python's and NumPy's."""

from typing import TypeGuard

import numpy as np


def is_whole(value: object) -> TypeGuard[int]:
    """True for a whole number. A truth value is none, though Python's is an `int`."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)

"""Spaces of every kind."""

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Text, Tuple

INF = np.inf

IMAGE = Box(0, 255, (84, 84, 4), np.uint8)

FLOATS = Box(-1, 1, (2,))

BYTES = Box(0, 255, (2,), np.uint8)

SPACES = [
    Discrete(3),
    Discrete(3, start=-7),
    Discrete(3, start=1, dtype=np.int8),
    MultiDiscrete([2, 3]),
    MultiDiscrete([2, 3], start=[5, -5], dtype=np.int32),
    MultiDiscrete([[2, 3, 4], [5, 6, 7]], start=[[0, 1, 2], [3, 4, 5]]),
    MultiBinary(1),
    MultiBinary(4),
    MultiBinary((2, 3)),
    Box(-1, 1, (3,)),
    Box(-1, 1, ()),
    Box(-1, 1, (1,)),
    Box(-1, 1, (0,)),
    Box(-INF, INF, (2, 2)),
    Box(0, INF, (2,), np.float64),
    Box(np.array([-INF, 0.1, -3]), np.array([1, INF, -0.3]), dtype=np.float64),
    Box(np.float32([[-0.1, -INF]]), np.float32([[3.4e38, 1e-7]])),
    Box(-1, 1, (2,), np.float16),
    IMAGE,
    Box(np.uint8([1, 2]), np.uint8([3, 255]), dtype=np.uint8),
    Box(np.array([-(2**63), 0]), np.array([2**63 - 1, 3]), dtype=np.int64),
    Box(np.array([0, 0], np.uint64), np.array([2**64 - 1, 3], np.uint64), dtype=np.uint64),
    Box(0, 1, (2,), np.bool_),
]

COMPOSITE = [
    Dict({"a": Discrete(2)}),
    Dict({"b": Discrete(2), "a": Box(-INF, 1, (2,))}),
    Tuple([Discrete(2)]),
    Tuple([Dict({"x": MultiBinary(2), "y": Tuple([Box(0, 1, ()), Discrete(3, start=1)])}), MultiDiscrete([2, 3])]),
    Tuple([]),
]

UNKNOWN = [  # space, the part of it that isn't known
    (Text(3), Text(3)),
    (Sequence(Discrete(2)), Sequence(Discrete(2))),
    (Tuple([Discrete(2), Text(3)]), Text(3)),
    (Dict({"a": Tuple([Text(3)])}), Text(3)),
    (Dict({1: Discrete(2)}), Dict({1: Discrete(2)})),
]

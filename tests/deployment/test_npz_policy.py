"""The reader of .npz files takes arrays alone."""

import json

import numpy as np
import pytest

from ppo2.deployment.npz_policy import Policy


def test_a_file_with_pickled_objects_is_refused(tmp_path):
    about = {"inputs": {}, "outputs": ["x"], "nodes": [["Identity", ["c"], "x", {}]]}
    np.savez(tmp_path / "x.npz", about=np.frombuffer(json.dumps(about).encode(), np.uint8), c=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Policy(tmp_path / "x.npz")

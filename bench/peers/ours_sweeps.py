"""Measures sweeps of ppo2 in a process of its own; `bench/sweeps.py` starts it and reads its last line."""

import hashlib
import time

import numpy as np
from steady import Job, Result, answer


def whole(job: Job) -> Result:
    """Seconds from the process's start to the end of training, and a digest of each run's parameters."""
    import ppo2

    settings = {**ppo2.preset(job["env"]), "total_timesteps": job["timesteps"], "env": job["env"], "progress": False}
    if job["parallel"] is None:
        models = [ppo2.learn(seed=0, **settings)]
    else:
        result = ppo2.sweep(seed=range(job["seeds"]), parallel=job["parallel"], **settings)
        assert not result.failures, result.failures
        models = [model for model in result.models if model is not None]
    seconds = time.monotonic() - job["started"]
    digests = [hashlib.sha256(np.asarray(model.state.params).tobytes()).hexdigest()[:16] for model in models]
    return {"seconds": seconds, "parameters": digests}


if __name__ == "__main__":
    answer({"whole": whole})

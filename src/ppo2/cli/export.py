"""`ppo2 export`."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ppo2.cli.env_options import NO_INHERIT, TakesEnvironment, UsageError
from ppo2.cli.options import Debug, Flag
from ppo2.cli.output import say, start_jax


@dataclasses.dataclass(kw_only=True)
class Export(TakesEnvironment):
    """Write the policy of a run for other programs: ONNX, StableHLO, or arrays for NumPy alone."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="run directory (its newest checkpoint), or a checkpoint")]
    onnx: Annotated[Path | None, arg(metavar="FILE", help="ONNX file, for runtimes in any language")] = None
    stablehlo: Annotated[Path | None, arg(metavar="FILE", help="file of jax.export, for programs with JAX")] = None
    numpy: Annotated[
        Path | None,
        arg(metavar="FILE", help=".npz file for NumPy alone; npz_policy.py, which reads it, is put beside it"),
    ] = None
    env: Annotated[
        str | None, arg(metavar="ID", help="environment to check on; None: the one trained on, if it can be made")
    ] = None
    no_inherit: Annotated[Flag, arg(help=NO_INHERIT)] = False
    debug: Debug = False

    def __call__(self) -> int:
        from ppo2 import envs
        from ppo2.agent.loading import load
        from ppo2.deployment.export import export

        start_jax("cpu")
        model, kwargs = load(self.run, device="cpu"), None
        env = model.config.env if self.env is None else self.env
        if self.words.env and not isinstance(env, str):
            raise UsageError("--env.NAME is for an environment that has an id: give --env ID too.")
        if (self.words.env or self.no_inherit) and isinstance(env, str):
            before = {} if self.no_inherit else envs.inherited(env, model.config.env, model.config.env_kwargs)
            kwargs = self.env_kwargs(env, before)
        written = export(
            model, onnx=self.onnx, stablehlo=self.stablehlo, numpy=self.numpy, env=self.env, env_kwargs=kwargs
        )
        for file in written:
            say(f"wrote {file.path} ({file.path.stat().st_size:,} bytes)")
            checks = {"random": file.random, "recorded": file.recorded}
            done = {name: check for name, check in checks.items() if check is not None}
            seen = " and ".join(f"{check.observations} {name}" for name, check in done.items())
            largest = max(check.difference for check in done.values())
            say(f"  acts as the model on {seen} observations; outputs differ by {largest:.1e} at most")
        first = written[0]
        if first.unrecorded:
            say(f"no recorded observations: {first.unrecorded}")
        for kind, arguments in (("inputs", first.inputs), ("outputs", first.outputs)):
            say(f"{kind:9}" + ", ".join(f"{name} {of.dtype}{_shape(of.shape)}" for name, of in arguments.items()))
        return 0


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(['batch', *map(str, shape)])}]"

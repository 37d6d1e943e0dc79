"""Speed with a memory: CartPole without velocities and an LSTM of 128 units, side by side with sb3-contrib's
RecurrentPPO (A, B, A, B; each measurement a fresh process).

    python bench/recurrent.py                                    # five minutes
    python bench/recurrent.py --quick --workloads R1             # to see whether it works
    python bench/recurrent.py --json recurrent.json

The measure is that of `bench/host.py`: environment steps per second, rollout and update. The environment is CartPole-v1
whose observations leave the velocities out (bench/peers/partly.py), made by its id in both libraries. In R1 policy and
value share one memory, in R1b each has its own. Network and hyperparameters are the same, and so is the size of a
minibatch: sb3-contrib cuts it from the rollout where it likes and pads episodes, ours takes whole sequences. With a
shared memory, ours also learns it from the value; sb3-contrib only from the policy.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

import tables
from host import Bench
from options import common, parsed
from programs import OURS, RECURRENT_PEERS, Contender, interpreter
from report import TABLE_WIDTH, machine, show
from results import save, source
from workloads import RECURRENT_WORKLOADS


def main() -> None:
    options = parse(sys.argv[1:])
    out, err = (Console(stderr=stderr, highlight=False) for stderr in (False, True))
    out.width = max(out.width, TABLE_WIDTH)
    ours = Contender(OURS, "plain", interpreter(OURS, options.python))
    peers = [
        [Contender(RECURRENT_PEERS[name], variant, python) for variant in RECURRENT_PEERS[name].variants]
        for name in options.peers
        for python in [interpreter(RECURRENT_PEERS[name], getattr(options, f"{name}_python"))]
    ]
    results: dict[str, Any] = {"machine": machine(), "versions": {}, "workloads": {}, "stepping": [], "startup": {}}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, err, Path(folder))
        for contender in (ours, *(variants[0] for variants in peers)):
            results["versions"][contender.program.title] = contender.measure("import")["versions"]
        about = source(sys.argv, results["versions"])
        for name in options.workloads:
            workload = RECURRENT_WORKLOADS[name]
            best = [bench.best_variant(workload, variants)[0] for variants in peers]
            results["workloads"][name] = bench.speed(workload, [ours], best)
            if options.json is not None:
                found = {"sources": {"": about}, "tables": tables.host(results, ""), "runs": results}
                save(options.json, found)
    show(out, results)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common(parser, workloads=RECURRENT_WORKLOADS, peers=RECURRENT_PEERS, seconds=4.0)
    return parsed(parser, arguments)


if __name__ == "__main__":
    main()

"""Time of acting and of a gradient step, by network and batch size, on 84 x 84 images of four 8-bit channels (networks
that convolve) or 64 numbers (the others).

    python bench/networks.py                                        # every network, half an hour
    python bench/networks.py --networks cnn --torch-python PATH     # beside the same in PyTorch
    python bench/networks.py --quick --networks cnn_small           # to see whether it works

Every network is measured as it is and, if it convolves, with XLA's own convolution; `cnn` and `impala_cnn` in PyTorch
too, in its default layout and with the better of one and its default threads, by the interpreter given. All in turn,
again and again, each measurement a fresh process that repeats one call for `--seconds`. Acting goes from observations
in NumPy to sampled actions in NumPy. A gradient step is forward, PPO's loss, backward, clipping and Adam; ours also
shuffles, and runs in a compiled update. Recurrent networks learn from sequences of 32 steps, batch / 32 of them. An
idle machine is up to you.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import tables
from options import names
from programs import Contender, Program
from report import TABLE_WIDTH, Spread, machine, ratios
from results import save, source

NUMBERS = ("mlp", "lstm", "lnlstm", "gru")
IMAGES = ("cnn_small", "conv_only", "cnn", "impala_cnn", "cnn_lstm", "cnn_lnlstm", "impala_cnn_lstm")
OURS = Program(
    name="ours", script="networks_ours.py", title="ppo2", variants={"ours": {"xla": False}, "XLA": {"xla": True}}
)
TORCH = Program(
    name="torch",
    script="torch_networks.py",
    title="PyTorch",
    variants={"1 thread": {"threads": 1}, "default threads": {"threads": None}},
)
TORCH_NETWORKS = ("cnn", "impala_cnn")
MEASURES = {"act": "act", "step": "gradient step"}


def main() -> None:
    options = parse(sys.argv[1:])
    out, err = (Console(stderr=stderr, highlight=False) for stderr in (False, True))
    out.width = max(out.width, TABLE_WIDTH)
    results: dict[str, Any] = {"machine": machine(), "rows": []}
    for network in options.networks:
        for measure in MEASURES:
            for batch in options.act_batches if measure == "act" else options.step_batches:
                row = {
                    "network": network,
                    "measure": measure,
                    "batch": batch,
                    **times(network, measure, batch, options),
                }
                results["rows"].append(row)
                medians = {name: Spread.of(runs).median for name, runs in row["runs"].items()}
                text = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in medians.items())
                err.print(f"{network} {measure} {batch}: {text}", style="dim", soft_wrap=True)
                if options.json is not None:
                    found = tables.networks(results, "")
                    save(options.json, {"sources": {"": source(sys.argv, {})}, "tables": found, "runs": results})
    show(out, results)


def times(network: str, measure: str, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds a call, of everyone in turn; of PyTorch's variants the faster one's."""
    contenders = {"ours": Contender(OURS, "ours", options.python)}
    if network in IMAGES and options.xla:
        contenders["XLA"] = Contender(OURS, "XLA", options.python)
    if network in TORCH_NETWORKS and options.torch_python is not None:
        contenders |= {name: Contender(TORCH, name, options.torch_python) for name in TORCH.variants}
    runs: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.repeats):
        for name, contender in contenders.items():
            result = contender.measure(
                measure, network=network, images=network in IMAGES, batch=batch, seconds=options.seconds
            )
            runs[name].append(result["seconds"])
    shown: dict[str, list[float]] = {name: runs[name] for name in ("ours", "XLA") if name in runs}
    variants = [runs[name] for name in TORCH.variants if name in runs]
    if variants:
        shown["PyTorch"] = min(variants, key=statistics.median)
    return {
        "all_runs": runs,
        "runs": shown,
        "ratios": {name: ratios(runs["ours"], of) for name, of in shown.items() if name != "ours"},
    }


def show(console: Console, results: dict[str, Any]) -> None:
    about = results["machine"]
    load = "" if about["load_before"] is None else f", load {about['load_before']:.2f} before"
    console.print(f"\n{about['cpu']}, {about['usable_cores']} of {about['cores']} cores{load}; {about['system']}")
    table = Table("network", "", title="Milliseconds a call", title_justify="left", title_style="bold")
    for column in ("batch", "ours", "XLA's own", "PyTorch", "ours / XLA's, paired", "ours / PyTorch, paired"):
        table.add_column(column, justify="right")
    for row in results["rows"]:
        cells = [_milliseconds(row["runs"].get(name)) for name in ("ours", "XLA", "PyTorch")]
        cells += [_ratio(row["ratios"].get(name)) for name in ("XLA", "PyTorch")]
        table.add_row(row["network"], MEASURES[row["measure"]], str(row["batch"]), *cells)
    console.print(table)
    console.print("Spread is least to greatest; paired: of runs that followed one another.", style="dim")


def _milliseconds(runs: list[float] | None) -> str:
    if runs is None:
        return ""
    spread = Spread.of([1e3 * seconds for seconds in runs])
    digits = 2 if spread.median < 10 else 1 if spread.median < 100 else 0
    median, low, high = (f"{x:.{digits}f}" for x in (spread.median, spread.low, spread.high))
    return f"{median} ({low}-{high})"


def _ratio(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return ""
    paired = ratio["paired"]
    return f"{paired['median']:.3f} ({paired['low']:.3f}-{paired['high']:.3f})"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks",
        type=names(dict.fromkeys(NUMBERS + IMAGES)),
        default=list(NUMBERS + IMAGES),
        help="names, by comma; without it all",
    )
    parser.add_argument("--act-batches", type=int, nargs="+", default=[1, 8, 64], metavar="N", help="1 8 64")
    parser.add_argument("--step-batches", type=int, nargs="+", default=[64, 256], metavar="N", help="64 256")
    parser.add_argument("--no-xla", dest="xla", action="store_false", help="without XLA's own convolution")
    parser.add_argument("--repeats", type=int, default=5, help="of every measurement (5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (3)")
    parser.add_argument(
        "--quick", action="store_true", help="1 repeat of half a second: whether it works, not how fast"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, for bench/document.py")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), metavar="PATH", help="interpreter that has ppo2 (this one)"
    )
    parser.add_argument("--torch-python", type=Path, metavar="PATH", help="interpreter that has PyTorch; none: without")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats, options.seconds = 1, 0.5
    return options


if __name__ == "__main__":
    main()

"""The tables of what the scripts measure, in the form that is kept (see `results.py`)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from report import Spread
from results import Cell, figure

Raw = Mapping[str, Any]
SHARES = "step / act / train, %"
DEVICE_COLUMNS = ("ppo2", "ppo2, one device", "rejax", "ratio", "ratio, one device", "compiling", "compiling, rejax")
STARTUP_COLUMNS = ("to the first update", "peak memory", "import")
STEPPING_COLUMNS = (
    *("this process", "ratio to Sync", "with one worker", "ratio to Sync, worker"),
    *("ratio to Async, worker", "Sync"),
)
PEER_TABLES = {"SBX": "sbx"}
"""Tables beside other libraries than the one that the table `peers` is about."""
GPU_COLUMNS = ("ppo2", "other", "other's", "ratio")
SWEEP_COLUMNS = ("all runs", "one run", "ratio")
HOST_SWEEP_COLUMNS = ("seconds", "times one run alone")


def table(columns: Sequence[str], rows: Iterable[tuple[str, Sequence[Cell]]], source: str) -> dict[str, Any]:
    """A table all of whose rows have one source."""
    made = {title: {"source": source, "cells": list(cells)} for title, cells in rows}
    assert all(len(row["cells"]) == len(columns) for row in made.values()), "a cell for each column"
    return {"columns": list(columns), "rows": made}


def host(raw: Raw, source: str) -> dict[str, Any]:
    """Tables of `bench/host.py` and `bench/recurrent.py`."""
    workloads = list(raw["workloads"].values())
    found = {"settings": _settings(workloads, source)}
    peers = dict.fromkeys(_peer(title) for of in workloads for title in of["contenders"] if not _is_ours(title))
    found |= {PEER_TABLES.get(peer, "peers"): _beside_peer(workloads, peer, source) for peer in peers}
    if raw.get("startup"):
        rows = ((title, _started(row)) for title, row in raw["startup"]["contenders"].items())
        found["startup"] = table(STARTUP_COLUMNS, rows, source)
    if raw.get("stepping"):
        stepped = ((f"{row['num_envs']} {row['env']}", _stepped(row["engines"])) for row in raw["stepping"])
        found["stepping"] = table(STEPPING_COLUMNS, stepped, source)
    return {name: of for name, of in found.items() if of["rows"]}


def _settings(workloads: Sequence[Raw], source: str) -> dict[str, Any]:
    variants = [title for title in workloads[0]["contenders"] if _is_ours(title)] if workloads else []
    columns = [title.removeprefix("ppo2, ") for title in variants]
    columns += [f"{columns[0]} / {other}" for other in columns[1:]] if columns else []

    def cells(rows: Raw) -> list[Cell]:
        rates = [_figure(rows[title]["steps_per_second"], "steps/s") for title in variants]
        return [*rates, *(_paired(rows[title]["ratio"]) for title in variants[1:])]

    return table(columns, ((of["title"], cells(of["contenders"])) for of in workloads if len(variants) > 1), source)


def peer_columns(peer: str) -> tuple[str, ...]:
    return "ppo2", peer, "ratio", SHARES, "of env alone"


def _is_ours(title: str) -> bool:
    return title.startswith("ppo2")


def _peer(title: str) -> str:
    """The library of a contender, without the variant."""
    return title.partition(",")[0]


def _beside_peer(workloads: Sequence[Raw], peer: str, source: str) -> dict[str, Any]:
    rows = []
    for of in workloads:
        (_, ours), *others = of["contenders"].items()
        alone = of["environment_alone"]["steps_per_second"]["median"]
        rate, shares = ours["steps_per_second"], ours.get("shares")
        for row in (row for title, row in others if _peer(title) == peer):
            told = [f"{100 * shares[name]:.0f}" for name in ("step", "act", "train")] if shares else []
            cells = [_figure(rate, "steps/s"), _figure(row["steps_per_second"], "steps/s"), _paired(row["ratio"])]
            rows.append((of["title"], [*cells, " / ".join(told), figure([100 * rate["median"] / alone], "%")]))
    return table(peer_columns(peer), rows, source)


def _started(row: Raw) -> list[Cell]:
    units = {"seconds": "s", "peak_mb": "MB", "import_seconds": "s"}
    return [_figure(row[name], unit) if name in row else "" for name, unit in units.items()]


def _stepped(engines: Raw) -> list[Cell]:
    cells: list[Cell] = []
    for name in ("alone", "workers"):
        cells += [_figure(engines[name]["steps_per_second"], ""), _paired(engines[name]["to_sync"])]
    to_async = engines["workers"].get("to_async")
    return [*cells, _paired(to_async) if to_async else "", _figure(engines["sync"]["steps_per_second"], "")]


def device(raw: Raw, source: str) -> dict[str, Any]:
    """Tables of `bench/device.py`: beside rejax, the sweep, and nanoseconds by the number of environments."""
    found = {}
    speed = [(of["title"], _beside(of["contenders"])) for of in raw["workloads"].values() if len(of["contenders"]) > 2]
    found["speed"] = table(DEVICE_COLUMNS, speed, source)
    if "sweep" in raw:
        rows = []
        for title, row in raw["sweep"]["contenders"].items():
            rates = [_figure(row[name]["steps_per_second"], "steps/s") for name in ("sweep", "single")]
            rows.append((title, [*rates, _paired(row["ratio"])]))
        found["sweep"] = table(SWEEP_COLUMNS, rows, source)
    if "scaling" in raw:
        contenders = raw["scaling"]["contenders"]
        sizes = list(next(iter(contenders.values()))["sizes"])
        costs = (
            (
                title,
                [
                    *(_figure(row["sizes"][size]["nanoseconds"], "ns") for size in sizes),
                    figure([row["most_over_least"]], "x"),
                ],
            )
            for title, row in contenders.items()
        )
        found["scaling"] = table([*sizes, "maximum / minimum"], costs, source)
    return {name: of for name, of in found.items() if of["rows"]}


def _beside(contenders: Raw) -> list[Cell]:
    rows = list(contenders.values())
    (peer,) = rows[0]["ratios"]
    return [
        *(_figure(row["steps_per_second"], "steps/s") for row in rows),
        *(_paired(row["ratios"][peer]) for row in rows[:-1]),
        *(_figure(row["compile_seconds"], "s") for row in (rows[0], rows[-1])),
    ]


def sweeps(raw: Raw, source: str) -> dict[str, Any]:
    """Table of `bench/sweeps.py`: a sweep on host environments beside one of its runs alone."""
    found = raw["sweep"]
    work = (
        f"{found['env']}, {found['timesteps']:,} timesteps a run{', nothing compiled before' if found['cold'] else ''}"
    )
    rows = []
    for name, row in found["contenders"].items():
        seeds = f" of {found['seeds']} seeds" if "ratio" in row else ""
        cells = [_figure(row["seconds"], "s"), _paired(row["ratio"]) if "ratio" in row else ""]
        rows.append((f"{work}: {name}{seeds}", cells))
    return {"host": table(HOST_SWEEP_COLUMNS, rows, source)}


def networks(raw: Raw, source: str) -> dict[str, Any]:
    """Tables of `bench/networks.py`: ours beside others, and milliseconds of all networks."""
    compared: list[tuple[str, list[Cell]]] = []
    by_network: dict[str, dict[str, Cell]] = {}
    columns: list[str] = []
    for row in raw["rows"]:
        measure = f"{'acting' if row['measure'] == 'act' else 'gradient step'}, {row['batch']}"
        ours = figure([1e3 * seconds for seconds in row["runs"]["ours"]], "ms")
        columns += [] if measure in columns else [measure]
        by_network.setdefault(row["network"], {})[measure] = ours
        for other, ratio in row["ratios"].items():
            theirs = figure([1e3 * seconds for seconds in row["runs"][other]], "ms")
            compared.append((f"{row['network']}, {measure} / {other}", [ours, theirs, _paired(ratio)]))
    alone = ((name, [cells.get(column, "") for column in columns]) for name, cells in by_network.items())
    found = {
        "peers": table(("ppo2", "other", "ratio"), compared, source),
        "milliseconds": table(columns, alone, source),
    }
    return {name: of for name, of in found.items() if of["rows"]}


def _paired(ratio: Raw) -> dict[str, Any]:
    return _figure(ratio["paired"], "x")


def _figure(spread: Mapping[str, float], unit: str) -> dict[str, Any]:
    return figure(Spread(**spread), unit)


def gpu(rows: Iterable[Any], source: str) -> dict[str, Any]:
    """Table of `bench/gpu/table.py`: the rows that compare."""
    found = []
    for row in rows:
        ratio: Cell = ""
        if row.ratio is not None:
            of_medians, pairs = row.ratio
            ratio = figure(Spread(of_medians, pairs.low, pairs.high), "x")
        both = [figure(values, row.unit) if values else "" for values in (row.ours, row.theirs)]
        found.append((f"{row.work} ({row.more})" if row.more else row.work, [both[0], row.other, both[1], ratio]))
    return {"comparisons": table(GPU_COLUMNS, found, source)}

"""The page of a report: text by Jinja2, which escapes all that comes from a run; charts by uPlot, from JSON.

Jinja2, as it escapes without being asked; `string.Template` and f-strings leave that to whoever writes the page. uPlot,
as its file is 50 kB and part of the page (Plotly's is 4.5 MB, Vega's 0.8 MB), draws thousands of points at once and has
what is needed: values under the pointer, zooming, several charts under one cursor.
"""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ppo2.plot.series import LENGTH, RETURN, labels_of
from ppo2.reporting import repeat
from ppo2.reporting.figures import clock, human
from ppo2.reporting.run_curve import Floats
from ppo2.reports.charts import Chart, histogram, line_chart
from ppo2.reports.diagnostics import DIAGNOSES, warnings_of
from ppo2.reports.runs import CLIPS, Run, gather, name_of, newest_clip
from ppo2.runners.episodes import EPISODE_WINDOW
from ppo2.system import files
from ppo2.system.text import human_bytes, printable

MOST_CLIP_BYTES = 30_000_000
"""Size of a film above which it doesn't become part of the page."""
MOST_FINDINGS = 12
"""Runs that a diagnosis tells of one by one."""
FOLDER = "ppo2.reports"
Returns = Mapping[str, Floats]


def report(
    runs: os.PathLike[str] | str | Sequence[os.PathLike[str] | str],
    out: os.PathLike[str] | str = "report.html",
    *,
    evaluations: Returns | None = None,
    video: os.PathLike[str] | str | None = None,
) -> Path:
    """Writes a report about run directories, or a sweep's: one page of HTML that needs no network.

    Args:
        runs: run directories, also of runs that still train.
        out: the file to write.
        evaluations: returns of evaluations, by a name for each, for a histogram; without it that of the last 100
            episodes of training.
        video: a film to show, .mp4, .webm or .gif; None: the newest in each run's directory.

    Raises:
        ValueError: one is no run directory; `video` is no film.
        TypeError: `evaluations` is no dict.
    """
    given = [runs] if isinstance(runs, os.PathLike | str) else list(runs)
    path = Path(out).expanduser()
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"`out` (={str(path)!r}) must end in .html")
    clip = None if video is None else Path(video).expanduser()
    if clip is not None and (clip.suffix.lower() not in CLIPS or not clip.is_file()):
        raise ValueError(f"`video` (={str(clip)!r}) must be a file that ends in one of {', '.join(CLIPS)}")
    if evaluations is not None and not isinstance(evaluations, Mapping):
        raise TypeError(
            f"`evaluations` (a {type(evaluations).__name__}) must be a dict, of returns by a name for each, as in "
            "{'newest policy': result.returns}"
        )
    found = gather([Path(run).expanduser() for run in given])
    files.replace(path, page(content(found, evaluations or {}, clip)).encode())
    return path


def as_data(file: Path) -> str:
    """The address of a film that is part of the page."""
    return f"data:{CLIPS[file.suffix.lower()]};base64,{base64.b64encode(file.read_bytes()).decode()}"


def content(
    runs: Sequence[Run],
    evaluations: Returns | None = None,
    video: Path | None = None,
    address_of: Callable[[Path], str] = as_data,
) -> dict[str, Any]:
    """Content of the page: `charts` for its script, and what the template makes text of.

    Args:
        address_of: gives the address that the page has a film from.
    """
    charts = _charts(runs, evaluations or {})
    drawn = {chart["id"] for chart in charts}
    diagnoses = [
        {"id": _chart_id(d.title), "title": d.title, "healthy": d.healthy, "findings": _findings(runs, d.judge)}
        for d in DIAGNOSES
    ]
    envs = list(dict.fromkeys(name_of(run.config["env"]) for run in runs if run.config.get("env")))
    clips = [found for run in runs[:1] if video is not None and (found := _clip(run.name, video, address_of))]
    if video is None:
        newest = [(run.name, file) for run in runs if (file := newest_clip(run.curve.path))]
        clips = [made for name, file in newest if (made := _clip(name, file, address_of))]
    return {
        "title": ", ".join(envs[:4]) or "Runs",
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "charts": charts,
        "drawn": drawn,
        "diagnoses": diagnoses,
        "clips": clips,
        "evaluated": bool(evaluations),
        "window": EPISODE_WINDOW,
        "runs": [_about(run) for run in runs],
    }


def page(found: Mapping[str, Any], *, live: bool = False) -> str:
    """The whole page."""
    style, scripts = _asset("vendor/uPlot.min.css") + _asset("report.css"), _scripts()
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return _render("report.html.jinja", **found, live=live, style=style, scripts=scripts, hashes=hashes)


def body(found: Mapping[str, Any]) -> str:
    """The part of the page that changes while a run trains: its text."""
    return _render("body.html.jinja", **found, live=True)


def _scripts() -> list[str]:
    return [_asset("vendor/uPlot.iife.min.js"), _asset("report.js")]


def _asset(name: str) -> str:
    return (resources.files(FOLDER) / name).read_text(encoding="utf-8")


def _render(template: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(FOLDER, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _chart_id(title: str) -> str:
    return "chart-" + title.lower().replace(" ", "-")


def _charts(runs: Sequence[Run], evaluations: Returns) -> list[Chart]:
    curves: list[Chart | None] = [
        line_chart("chart-return", runs, [RETURN], "episode return", dots=True),
        line_chart("chart-evaluation", runs, ["eval_eprewmean"], "mean return of evaluations"),
        line_chart("chart-length", runs, [LENGTH], "episode length"),
    ]
    curves += [line_chart(_chart_id(d.title), runs, d.columns, d.title.lower()) for d in DIAGNOSES]
    if evaluations:
        labels, words = list(evaluations.items()), "return of an evaluation's episodes"
    else:
        groups: dict[str, list[Floats]] = {}
        for run, label in zip(runs, labels_of([run.curve for run in runs]), strict=True):
            if not run.curve.is_smooth:
                groups.setdefault(label, []).append(run.curve.returns[-EPISODE_WINDOW:])
        labels = [(label, np.concatenate(parts)) for label, parts in groups.items()]
        words = f"return of the last {EPISODE_WINDOW} training episodes"
    curves.append(histogram("chart-histogram", labels, words))
    return [chart for chart in curves if chart is not None]


def _findings(runs: Sequence[Run], judge: Any) -> list[dict[str, str]]:
    """Findings on each run; of many runs how many show the same, and the names of those that want a look."""
    found = [(run.name, judge(run)) for run in runs]
    if len(found) <= MOST_FINDINGS:
        return [
            {"name": name if len(runs) > 1 else "This run", "verdict": f.verdict, "words": f.words} for name, f in found
        ]
    listed = []
    for verdict in ("bad", "look", "good", "none"):
        names = [name for name, finding in found if finding.verdict == verdict]
        if names:
            shown = ", ".join(names[:MOST_FINDINGS]) + (" ..." if len(names) > MOST_FINDINGS else "")
            words = f"e.g. {next(f.words for name, f in found if name == names[0])} ({shown})"
            listed.append({"name": f"{len(names)} of {len(found)} runs", "verdict": verdict, "words": words})
    return listed


def _about(run: Run) -> dict[str, Any]:
    """Facts about a run: what was trained, how far, on what, and how to do it again."""
    made, total = run.updates
    python = repeat.python_call(run.config) if run.config.get("env") is not None else None
    return {
        "name": run.name,
        "path": printable(run.curve.path),
        "done": total is not None and made >= total,
        "progress": f"{made:,} of {total:,} updates" if total is not None else f"{made:,} updates",
        "facts": [(name, value) for name, value in _facts(run) if value],
        "problems": run.problems,
        "warnings": warnings_of(run),
        "command": repeat.command_line(run.config) if run.config else None,
        "python": python,
        "objects": repeat.objects_in(run.config),
        "untold": repeat.untold(run.config),
        "settings": [(printable(k), name_of(v)) for k, v in run.config.items() if k not in ("sessions", "versions")],
    }


def _facts(run: Run) -> list[tuple[str, str]]:
    returns = run.curve.returns[np.isfinite(run.curve.returns)]
    recent = returns[-1:] if run.curve.is_smooth else returns[-EPISODE_WINDOW:]
    spread = f" ± {human(float(recent.std()))}" if len(recent) > 1 else ""
    sessions = run.config.get("sessions")
    known = [one for one in sessions if isinstance(one, Mapping)] if isinstance(sessions, list) else []
    last: Mapping[str, Any] = known[-1] if known else {}
    versions = last.get("versions", run.config.get("versions"))
    platform = last.get("platform")
    seconds, speed = run.seconds, run.last("fps")
    episodes = 0 if run.curve.is_smooth else len(run.curve.returns)
    return [
        ("Environment", name_of(run.config.get("env") or "")),
        ("Network", name_of(run.config.get("network") or "")),
        ("Return", f"{human(float(recent.mean()))}{spread}, the last {len(recent)} episodes" if len(recent) else ""),
        ("Evaluation", _last_and_best(run.column("eval_eprewmean"))),
        ("Timesteps", f"{run.timesteps:,.0f}" if run.timesteps else ""),
        ("Episodes", f"{episodes:,}" if episodes else ""),
        ("Seed", name_of(run.config.get("seed", ""))),
        ("Time", f"{clock(seconds)}" + (f", {speed:,.0f} timesteps per second" if speed else "") if seconds else ""),
        ("Machine", _listed(platform)),
        ("Versions", _listed(versions)),
        ("Sessions", f"{len(known)}, the first began {printable(known[0].get('started', '?'))}" if known else ""),
    ]


def _last_and_best(values: Floats) -> str:
    known = values[np.isfinite(values)].tolist()
    return f"{human(known[-1])} last, {human(max(known))} best" if known else ""


def _listed(values: Any) -> str:
    pairs = values.items() if isinstance(values, Mapping) else ()
    return ", ".join(f"{printable(name)} {printable(value)}" for name, value in pairs)


def _clip(name: str, file: Path, address_of: Callable[[Path], str]) -> dict[str, Any] | None:
    """A film as part of the page, or a word about one that is too large."""
    try:
        size = file.stat().st_size
        if size > MOST_CLIP_BYTES:
            limit = human_bytes(MOST_CLIP_BYTES)
            return {"name": name, "file": printable(file), "data": None, "why": f"{human_bytes(size)}, above {limit}"}
        address = address_of(file)
    except OSError as error:
        return {"name": name, "file": printable(file), "data": None, "why": error.strerror or str(error)}
    mime = CLIPS[file.suffix.lower()]
    return {"name": name, "file": printable(file.name), "data": address, "mime": mime, "why": ""}

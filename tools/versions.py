"""Runs the quick tests on every Python found, once with the newest and once with the lowest versions of all packages.

    python tools/versions.py                                   # everything: a quarter of an hour and more for each
    python tools/versions.py python3.13 --only lowest          # one of them
    python tools/versions.py -- -m core                        # other tests: what follows are arguments of pytest

The lowest versions are the floors in pyproject.toml; where a floor has no wheel for a Python, the first above it that
has one. Pythons are looked for on PATH and where pyenv and uv put them. Each run has an environment of its own under
build/versions/, removed at its end, and leaves there its log and the versions that it had. Needs uv (the extra `dev`).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "versions"
RESOLUTIONS = {"newest": "highest", "lowest": "lowest-direct"}
"""The runs of each Python, and what uv calls them."""
NEWEST_MINOR = 30
"""The last minor version of Python 3 that is looked for: there is no upper bound in pyproject.toml."""
SHOWN = ("jax", "numpy", "scipy", "gymnasium")
OTHER_PLACES = (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin")


def oldest_minor() -> int:
    """The minor version of Python 3 that pyproject.toml begins with."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    return int(wanted.removeprefix(">=3."))


def version_of(python: str) -> str | None:
    """The version of an interpreter, as "3.12"; None if it doesn't run or can't make virtual environments."""
    asked = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def interpreters() -> dict[str, str]:
    """The first interpreter of each version that is found."""
    places = os.environ.get("PATH", "").split(os.pathsep)
    places += [str(place) for pattern in OTHER_PLACES for place in sorted(Path.home().glob(pattern))]
    found: dict[str, str] = {}
    for minor in range(oldest_minor(), NEWEST_MINOR):
        for place in places:
            python = shutil.which(f"python3.{minor}", path=place)
            # pyenv's shims are there for versions that they then refuse to run
            if python is not None and version_of(python) == f"3.{minor}":
                found[f"3.{minor}"] = python
                break
    return found


def uv(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *map(str, arguments)], cwd=ROOT, check=True)


def tested(version: str, python: str, which: str, arguments: list[str]) -> tuple[bool, str]:
    """Runs the tests on one Python with one set of versions; returns if they passed, and a line that tells of it."""
    name = f"{version}-{which}"
    venv, wanted, log = PLACE / name, PLACE / f"{name}-versions.txt", PLACE / f"{name}.log"
    start = time.monotonic()
    try:
        resolution = ("--resolution", RESOLUTIONS[which], "--only-binary", ":all:", "--no-header", "--no-annotate")
        uv("pip", "compile", *resolution, "--python", python, "--all-extras", "pyproject.toml", "-o", wanted)
        uv("venv", "--clear", "--python", python, venv)
        there = ("--python", venv / "bin" / "python")
        uv("pip", "install", *there, "--only-binary", ":all:", "-r", wanted)
        uv("pip", "install", *there, "--no-deps", "--editable", ".")
    except subprocess.CalledProcessError as error:
        return False, f"{name}: can't be installed: {error}"
    environment = {**os.environ, "PATH": os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", "")])}
    command = [venv / "bin" / "python", "-m", "pytest", "--quiet", "--numprocesses", "2", *arguments]
    with log.open("w") as output:
        # the programs that JAX keeps are those of one version
        cache = ("-o", f"cache_dir={venv / 'cache'}")
        done = subprocess.run([*command, *cache], cwd=ROOT, env=environment, stdout=output, stderr=output, check=False)
    shutil.rmtree(venv)
    versions = dict(re.findall(r"^([\w-]+)==(\S+)", wanted.read_text(), re.MULTILINE))
    had = ", ".join(f"{package} {versions[package]}" for package in SHOWN)
    end = log.read_text(errors="replace").strip().splitlines()[-1:]
    return done.returncode == 0, f"{name}: {had}: {' '.join(end)} ({(time.monotonic() - start) / 60:.0f} minutes)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", help="interpreters; all that are found if none is given")
    parser.add_argument("--only", choices=RESOLUTIONS, help="one of the two runs")
    given, separator = sys.argv[1:], "--"
    cut = given.index(separator) if separator in given else len(given)
    options = parser.parse_args(given[:cut])
    PLACE.mkdir(parents=True, exist_ok=True)
    pythons = {version_of(python) or python: python for python in options.pythons} or interpreters()
    print("found:", ", ".join(f"{version} ({python})" for version, python in pythons.items()), flush=True)
    failed = False
    for version, python in pythons.items():
        for which in [options.only] if options.only else RESOLUTIONS:
            passed, line = tested(version, python, which, given[cut + 1 :])
            print("passed" if passed else "FAILED", line, flush=True)
            failed |= not passed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""The package as others get it: its page on an index, its source archive, its extras, its tests without plugins."""

import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXT = "A [page](docs/gpu.md#memory), a [part](#install), [JAX](https://docs.jax.dev).\n\n![curve](docs/c.png)\n\nEnd"


@pytest.fixture(scope="module")
def package_page() -> Any:
    pytest.importorskip("hatchling")
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import package_page
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return package_page


def test_links_of_the_page_lead_to_the_repository(package_page: Any) -> None:
    assert package_page.page(TEXT, "https://example.org/us/ppo2") == (
        "A [page](https://example.org/us/ppo2/blob/HEAD/docs/gpu.md#memory), a [part](#install), "
        "[JAX](https://docs.jax.dev).\n\n![curve](https://example.org/us/ppo2/raw/HEAD/docs/c.png)\n\nEnd"
    )


def test_without_an_address_no_link_leads_nowhere(package_page: Any) -> None:
    assert package_page.page(TEXT, "") == "A page, a [part](#install), [JAX](https://docs.jax.dev).\n\nEnd"


@pytest.mark.parametrize("address", ["", "https://example.org/us/ppo2/"])
def test_the_metadata_of_the_page(address: str, package_page: Any) -> None:
    metadata: dict[str, Any] = {}
    package_page.PackagePage(str(ROOT), {"address": address}).update(metadata)
    assert "](docs/" not in metadata["readme"]["text"]
    assert ("urls" in metadata) is bool(address)
    for url in metadata.get("urls", {}).values():
        assert re.fullmatch(r"https://example\.org/us/ppo2(/[\w.]+)*", url)


@pytest.mark.core
def test_the_source_archive_has_what_the_tests_read(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.sdist")
    archive = next(builder.SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    folders = ("src", "tests", "tools", "docs", "examples", "bench")
    kinds = (".py", ".md", ".png", ".safetensors", ".ipynb")
    files = {file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in kinds}
    files |= {file for file in ROOT.iterdir() if file.suffix in (".md", ".toml", ".txt") or file.name == "Makefile"}
    wanted = {file.relative_to(ROOT).as_posix() for file in files if ".venvs" not in file.parts}
    assert wanted <= names, wanted - names


def test_all_is_every_extra_of_users() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(everything.removeprefix("ppo2[").removesuffix("]").split(",")) == extras.keys() - {"all", "dev", "docs"}


def test_no_python_is_too_new() -> None:
    assert "<" not in PROJECT["requires-python"]
    extras = [line.partition(";") for lines in PROJECT["optional-dependencies"].values() for line in lines]
    ending = [package.split(">")[0] for package, _, marker in extras if "<" in marker]
    assert ending == ["box2d", "pettingzoo", "supersuit"]  # wheels end at 3.13, and at 3.12 in the extra of developers


@pytest.mark.parametrize("absent", [("cacheprovider",), ("xdist", "timeout", "randomly"), ("cacheprovider", "xdist")])
def test_the_tests_run_without_plugins(absent: tuple[str, ...], tmp_path: Path) -> None:
    options = [word for name in absent for word in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", *options, "tests/config/test_rules.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

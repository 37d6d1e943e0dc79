"""The documentation site: it builds without warnings and without the network, and has every page and every name."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import ppo2
from support.browser import CHROMIUM, page_in_browser

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
OUTWARD = re.compile(r"\]\((?!https?://|#)(?:\.\./)+(?P<first>[\w.-]+)")


class Loader(yaml.SafeLoader):
    """Reads functions that are named in a file as None."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def settings() -> dict[str, Any]:
    return yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)


def places(nav: Any) -> list[str]:
    """The pages of a navigation, in their order."""
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [page for entry in entries for page in places(entry)]


@pytest.mark.core
def test_every_page_has_one_place_in_the_navigation() -> None:
    assert sorted(places(settings()["nav"])) == PAGES


@pytest.mark.core
@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_stay_inside_the_site(page: str) -> None:
    """A built page has no other files beside it: name those of the repository as code."""
    for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", (DOCS / page).read_text(encoding="utf-8")):
        assert (DOCS / page).parent.joinpath(link).resolve().is_relative_to(DOCS), link


@pytest.mark.core
def test_the_reference_has_every_public_name() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    modules = {"callbacks", "distributed", "envs", "networks", "plot"}
    assert {f"ppo2.{name}" for name in ppo2.__all__ if name not in modules} <= shown
    assert {f"ppo2.callbacks.{name}" for name in ppo2.callbacks.__all__} <= shown


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a copy of the project: another process of the tests may build it at the same time."""
    pytest.importorskip("zensical", reason="needs the extra [docs]")
    project = tmp_path_factory.mktemp("site") / "project"
    left_out = shutil.ignore_patterns(".*", "build", "dist", "runs", "tests", "node_modules", "__pycache__")
    shutil.copytree(ROOT, project, ignore=left_out)
    command = [sys.executable, "tools/docs.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "build" / "site"


def test_the_site_is_built_without_warnings(site: Path) -> None:
    """Nor does a page load anything from elsewhere: tools/docs.py looks for both."""
    assert sorted(path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")) == sorted(
        [*PAGES, "404.md"]
    )


def test_language_models_find_the_pages_as_markdown(site: Path) -> None:
    links = re.findall(r"^- .*?\]\(([^)]+)\)", (site / "llms.txt").read_text(encoding="utf-8"), re.MULTILINE)
    inside = [link for link in links if not link.startswith("https://")]
    assert "environments.md" in inside
    assert all((site / link).is_file() for link in inside), inside
    assert all("/blob/HEAD/" in link for link in set(links) - set(inside))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
def test_search_works_in_a_folder(site: Path, tmp_path: Path) -> None:
    """Opened as files, without a server and without the network."""
    with page_in_browser(tmp_path / "profile") as page:
        page.open((site / "index.html").as_uri())
        page.wait_for("document.querySelector('.md-search__button') !== null")
        page.evaluate("document.querySelector('.md-search__button').click()")
        page.wait_for("[...document.querySelectorAll('div')].some(x => x.shadowRoot)")
        page.evaluate("window.box = [...document.querySelectorAll('div')].find(x => x.shadowRoot).shadowRoot; 1")
        page.wait_for("box.querySelector('input') !== null")
        page.write("box.querySelector('input')", "replay_limit")
        page.wait_for("box.querySelector('a') !== null")
        links = page.evaluate("[...box.querySelectorAll('a')].map(link => link.href)")
        assert any("reference/environments.html" in link for link in links), links
        assert all(address.startswith("file:") for address in page.asked), page.asked
        assert not page.said

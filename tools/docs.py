"""Builds the documentation site in build/site and fails on any warning (`make docs`).

    python tools/docs.py [--serve]

Zensical's own strict mode knows of links; what Griffe says of docstrings, and files that a page would load from
elsewhere, are looked for here. `--serve` shows the site at http://localhost:8000 instead, and follows changes.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SITE = ROOT / "build" / "site"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WARNING = re.compile(r"^(griffe|mkdocstrings|mkdocs_autorefs|Warning|Error)\b", re.IGNORECASE | re.MULTILINE)
LOADED = re.compile(r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=[\"']?(?P<src>[^\"'\s>]+)", re.IGNORECASE)
LINKED = re.compile(r"<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|icon|preload|preconnect|manifest))[^>]*>", re.IGNORECASE)
HREF = re.compile(r"\bhref=[\"']?(?P<href>[^\"'\s>]+)")
ELSEWHERE = re.compile(r"(?:https?:)?//")


def loads(html: str) -> Iterator[str]:
    """The addresses of files that a browser loads with a page."""
    for found in LOADED.finditer(html):
        yield found["src"]
    for link in LINKED.findall(html):
        yield from (found["href"] for found in HREF.finditer(link))


def faults() -> list[str]:
    """Files of the built site that load something from another host."""
    pages = sorted(SITE.rglob("*.html"))
    return [
        f"{page.relative_to(SITE)} loads {address}"
        for page in pages
        for address in loads(page.read_text(encoding="utf-8"))
        if ELSEWHERE.match(address)
    ]


def keep_markdown() -> None:
    """Puts the Markdown of each page beside it, and llms.txt, whose links lead there (llmstxt.org)."""
    for page in (ROOT / "docs").rglob("*.md"):
        place = SITE / page.relative_to(ROOT / "docs")
        if place.with_suffix(".html").exists():
            place.write_bytes(page.read_bytes())
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    address = settings["tool"]["hatch"]["metadata"]["hooks"]["custom"]["address"]
    text = (ROOT / "llms.txt").read_text(encoding="utf-8").replace("](docs/", "](")
    others = re.compile(r"\]\((?=[A-Z][\w.-]*\.md\)|examples/)")
    (SITE / "llms.txt").write_text(others.sub(f"]({address}/blob/HEAD/", text), encoding="utf-8")


def main() -> int:
    zensical = [sys.executable, "-m", "zensical"]
    if "--serve" in sys.argv[1:]:
        return subprocess.call([*zensical, "serve"], cwd=ROOT)
    command = [*zensical, "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = COLOUR.sub("", done.stdout + done.stderr).partition("Traceback (most recent call last)")[0].strip()
    found = faults() if done.returncode == 0 else []
    print("\n".join([said, *found]))
    if done.returncode or found or WARNING.search(said):
        print("The documentation has warnings.")
        return 1
    keep_markdown()
    print(f"The documentation is in {SITE.relative_to(ROOT)}: open {(SITE / 'index.html').relative_to(ROOT)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

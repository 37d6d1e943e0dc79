"""The page of a package index: README.md whose links and pictures lead to the project's repository, and its addresses.

Hatchling calls it for every build (`[tool.hatch.metadata.hooks.custom]` in pyproject.toml). An index shows the page
without the files beside it, so a link to one of them needs the address of the repository, `address` in that table.
While none is set, a link is its words alone and a picture is left out.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)\s]+)\)\n*")
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")
PAGES = {
    "Homepage": "",
    "Documentation": "/blob/HEAD/README.md",
    "Changelog": "/blob/HEAD/CHANGELOG.md",
    "Issues": "/issues",
}
"""Links beside the page: their titles, and where they lead in the repository."""


def page(text: str, address: str) -> str:
    """A text in Markdown whose links lead somewhere without the files beside it.

    Args:
        address: address of the repository, without a stroke at its end; "" if there is none.
    """
    if not address:
        return LINK.sub(r"\1", PICTURE.sub("", text))
    return LINK.sub(rf"[\1]({address}/blob/HEAD/\2)", PICTURE.sub(rf"![\1]({address}/raw/HEAD/\2)\n\n", text))


class PackagePage(MetadataHookInterface):
    """The fields of the package's metadata that depend on the address."""

    def update(self, metadata: dict[str, Any]) -> None:
        address = self.config["address"].rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": page(text, address)}
        if address:
            metadata["urls"] = {title: address + path for title, path in PAGES.items()}

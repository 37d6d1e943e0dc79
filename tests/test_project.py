"""Files for those who join or use the project: they can be read, and agree with one another.

What their services make of them is checked where the services are: actionlint, zizmor, hadolint and cffconvert read
them too, before a change to them is made.
"""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import ppo2

ROOT = Path(__file__).parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS: str = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]["address"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
NAMING_IT = (
    *("CITATION.cff", "SECURITY.md", "mkdocs.yml", "llms.txt", "README.md", "README.zh-CN.md", "CHANGELOG.md"),
    *("CONTRIBUTING.md", "RELEASING.md", "CODE_OF_CONDUCT.md"),
)
"""Files that may name the repository's address, beside those of .github and docs."""

pytestmark = pytest.mark.core


def read(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def jobs(workflow: Path) -> dict[str, Any]:
    return yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(workflow).values() for step in job["steps"]]


def targets() -> set[str]:
    """The targets of the Makefile that are no files."""
    (phony,) = re.findall(r"^\.PHONY: ((?:.|\\\n)*?[^\\])$", read("Makefile"), re.MULTILINE)
    return set(phony.replace("\\\n", " ").split())


def test_all_files_of_the_project_name_one_address() -> None:
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+", ADDRESS)
    pages = [*NAMING_IT, *((ROOT / "docs").rglob("*.md")), *((ROOT / ".github").rglob("*.yml"))]
    for page in pages:
        found = re.findall(r"https://github\.com/[\w-]+/ppo2\b", read(page))
        assert set(found) <= {ADDRESS}, page
    assert yaml.safe_load(read("CITATION.cff"))["repository-code"] == ADDRESS
    assert f"{ADDRESS}/security/advisories/new" in read("SECURITY.md")


def test_links_to_the_repository_lead_to_its_files() -> None:
    for page in [*NAMING_IT, *((ROOT / "docs").rglob("*.md"))]:
        for name in re.findall(rf"{re.escape(ADDRESS)}/(?:blob|raw|tree)/HEAD/([^)\s#]+)", read(page)):
            assert (ROOT / name).exists(), f"{page} leads to {name}"


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == ppo2.__version__
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in PYPROJECT["project"]["authors"]
    ]
    assert {"message", "title", "type"} <= citation.keys()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_do_little_and_use_fixed_versions(workflow: Path) -> None:
    """Permissions beyond reading belong to the jobs that need them; a tag of an action can be moved, a commit can't."""
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    for name, job in jobs(workflow).items():
        assert job["timeout-minutes"] <= 120
        assert "permissions" not in job or name == "publish"
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_one_version_of_an_action_is_used() -> None:
    used = {line for workflow in WORKFLOWS for line in re.findall(r"uses: (.*)", workflow.read_text(encoding="utf-8"))}
    assert len({line.partition("@")[0] for line in used}) == len(used)


def test_workflows_test_the_versions_of_python_that_are_promised() -> None:
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PYPROJECT["project"]["classifiers"]))
    (tests,) = (path for path in WORKFLOWS if path.stem == "tests")
    assert jobs(tests)["tests"]["strategy"]["matrix"]["python"] == promised
    assert PYPROJECT["project"]["requires-python"] == f">={promised[0]}"


def test_workflows_and_pages_name_targets_of_the_makefile() -> None:
    commands = "\n".join(step.get("run", "") for workflow in WORKFLOWS for step in steps(workflow))
    assert set(re.findall(r"^make (?:PYTHON=\S+ )?([\w-]+)", commands, re.MULTILINE)) >= {"lint", "coverage", "docs"}
    for text in (commands, read("CONTRIBUTING.md"), read("RELEASING.md"), read(".github/PULL_REQUEST_TEMPLATE.md")):
        assert set(re.findall(r"(?:^|`)make (?:[A-Z]+=\S+ )*([\w-]+)", text, re.MULTILINE)) <= targets()
    for target in targets():
        assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE), target


def test_the_release_uses_the_versions_of_the_constraints() -> None:
    (release,) = (path for path in WORKFLOWS if path.stem == "release")
    for package in re.findall(r"\b([\w-]+==\d[\w.]*)", release.read_text(encoding="utf-8")):
        assert re.search(rf"^{re.escape(package)}$", CONSTRAINTS, re.MULTILINE), package


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_forms_of_issues(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= content.keys()
    asked = [part for part in content["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in asked}) == len(asked)
    assert any(part["validations"]["required"] for part in asked if "validations" in part)


def test_hooks_are_what_lint_checks() -> None:
    """They are the programs in .venv, so that they work without the network."""
    hooks = [hook for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    entries = {" ".join(shlex.split(hook["entry"])[:2]) for hook in hooks}
    lint = re.search(r"^lint: setup\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)
    assert lint is not None
    wanted = {line.strip().replace("$(BIN)", ".venv/bin") for line in lint[1].splitlines()}
    assert {" ".join(line.removesuffix(" .").removesuffix(" --check .").split()[:2]) for line in wanted} == entries
    assert all(hook["language"] == "system" for hook in hooks)


def test_the_image_trains_as_an_ordinary_user_and_has_what_it_copies() -> None:
    lines = [line.split() for line in read("Dockerfile").replace("\\\n", " ").splitlines()]
    (user,) = (line[1] for line in lines if line[:1] == ["USER"])
    assert user != "0"
    assert int(user) >= 1000  # a number: Kubernetes tells by it that this is no root
    copied = [name for line in lines if line[:1] == ["COPY"] for name in line[1:-1]]
    kept = re.findall(r"^!(.*)$", read(".dockerignore"), re.MULTILINE)
    assert sorted(copied) == sorted(kept)
    assert all((ROOT / name).exists() for name in copied)
    image = re.search(r"^FROM python:(3\.\d+)-slim$", read("Dockerfile"), re.MULTILINE)
    assert image is not None
    assert f"Programming Language :: Python :: {image[1]}" in PYPROJECT["project"]["classifiers"]


def test_llms_txt_has_its_parts_and_its_links_lead_somewhere() -> None:
    """The form of llmstxt.org: a title, a summary, and lists of links under headings."""
    title, summary, *rest = filter(None, read("llms.txt").splitlines())
    assert title == "# ppo2"
    assert summary.startswith("> ")
    links = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)(?:: .+)?$", "\n".join(rest), re.MULTILINE)
    assert all((ROOT / link).is_file() for link in links), links
    examples = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    assert examples <= set(links)
    below = "\n".join(rest).split("\n## ")[1:]
    assert [part.splitlines()[0] for part in below] == ["Start", "Use", "Guides", "Examples", "Optional"]


def test_the_address_is_on_the_page_of_the_package_index() -> None:
    pytest.importorskip("hatchling")
    asked = "import json; from hatchling.metadata.core import ProjectMetadata as P; from hatchling.plugin.manager "
    asked += "import PluginManager as M; print(json.dumps(P('.', M()).core.urls))"
    import json
    import sys

    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    urls = json.loads(done.stdout)
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= urls.keys()
    assert all(url.startswith(ADDRESS) for url in urls.values())

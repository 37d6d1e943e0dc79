"""Runs the commands that the pages show and writes what they print into the pages: nobody types a screen.

    python tools/screens.py                       # all pages of docs/ with a mark
    python tools/screens.py docs/tutorial.md      # one of them

A screen stands between two marks, and whatever was there is replaced; the first mark has the command:

    <!-- screen: ppo2 eval runs/x --episodes 20 -->
    <!-- end -->

| mark | what is made |
|---|---|
| `screen (12 lines)` | the first lines |
| `screen (terminal)` | on a terminal, where a command shows its table: the last picture of it |
| `screen (hub)` | with a stand-in for the Hugging Face Hub (tests/support/hub.py) |
| `screen (NAME.png 900x600)` | of a command that serves a page until Ctrl-C: also the page, drawn into docs/images/ |
| `run` | nothing: the command is run |
| `picture NAME.png (900x600): FILE.html` | a page that a command has written, drawn into docs/images/ |
| `frame NAME.png (100): FILE.mp4` | a picture of a film that a command has written, in docs/images/ |

The commands of a page run one after the other in one new directory. Pages in docs/zh/ take the screens of the English
page of the same name. tests/test_screens.py checks the marks.

A command may write a picture of a page into $IMAGES.
"""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COLUMNS = 88
MARK = re.compile(
    r"<!-- (?:screen|(?P<kind>run|(?:picture|frame) (?P<name>\S+)))(?: \((?P<how>[^)]+)\))?: (?P<command>[^\n]+?) -->\n"
    r"(?(kind)|.*?<!-- end -->\n)",  # of a screen all that is there
    re.DOTALL,
)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
CONTROL = re.compile(r"\x1b\[(?P<number>\d*)(?P<what>[AK])|(?P<break>\n)|(?P<start>\r)")
"""Controls of a terminal: the cursor goes up, the line is cleared, a new line begins, the same begins again."""


def written(page: str, place: Path) -> str:
    """The page with its screens as the commands print them now.

    Args:
        place: an empty directory to run them in.
    """

    def screen(mark: re.Match[str]) -> str:
        head = mark[0].partition("\n")[0]
        kind, how, command = mark["kind"], mark["how"] or "", mark["command"]
        if kind == "run":
            printed(command, place)
            return f"{head}\n"
        if kind is not None:
            make = draw if kind.startswith("picture") else take_frame
            make(place / command, DOCS / "images" / mark["name"], how)
            return f"{head}\n"
        if how == "terminal":
            lines = on_terminal(command, place)
        elif how == "hub":
            lines = with_hub(command, place)
        elif served := re.fullmatch(r"(\S+\.png) (\d+)x(\d+)", how):
            lines = while_served(command, place, DOCS / "images" / served[1], int(served[2]), int(served[3]))
        else:
            lines = printed(command, place)
        first = re.fullmatch(r"(\d+) lines", how)
        if first is not None and len(lines) > int(first[1]):
            lines = [*lines[: int(first[1])], "..."]
        return "\n".join([head, "```console", f"$ {command}", *lines, "```", "<!-- end -->", ""])

    return MARK.sub(screen, page)


def printed(command: str, place: Path, **variables: str) -> list[str]:
    """The lines that a command prints into a pipe."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=place,
        env={**environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return tidied(done.stdout, place)


def with_hub(command: str, place: Path) -> list[str]:
    """The lines that a command prints where a stand-in is the Hub."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.hub import running

    with running() as hub:
        lines = printed(
            command,
            place,
            HF_ENDPOINT=hub.url,
            HF_HOME=str(place / ".hub"),
            HF_TOKEN="hf_stand_in",
            HF_HUB_DISABLE_XET="1",
            HF_HUB_DISABLE_PROGRESS_BARS="1",
            HF_HUB_DISABLE_TELEMETRY="1",
        )
        return [line.replace(hub.url, "https://huggingface.co") for line in lines]


def while_served(command: str, place: Path, picture: Path, width: int, height: int) -> list[str]:
    """The lines that a command prints until Ctrl-C; the page whose address is among them is drawn meanwhile."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.browser import page_in_browser

    with (
        tempfile.TemporaryDirectory() as profile,
        subprocess.Popen(
            ["bash", "-c", command],
            cwd=place,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        first = process.stdout.readline()
        address = re.search(r"http://\S+", first)
        if address is None:
            raise SystemExit(f"{command}: {first}{process.stdout.read()}")
        with page_in_browser(Path(profile)) as page:
            page.open(address[0], width=width, height=height)
            page.evaluate("document.querySelectorAll('details').forEach(one => one.removeAttribute('open'))")
            time.sleep(2.0)  # until it has drawn its charts
            page.screenshot(picture, whole=False)
        os.killpg(process.pid, signal.SIGINT)
        return tidied(first + process.stdout.read(), place)


def on_terminal(command: str, place: Path) -> list[str]:
    """The lines that are left on a terminal when a command has ended."""
    mine, its = pty.openpty()
    with subprocess.Popen(
        ["bash", "-c", command], cwd=place, env={**environment(), "TERM": "xterm"}, stdin=its, stdout=its, stderr=its
    ) as process:
        os.close(its)
        data = b""
        try:
            while more := os.read(mine, 65536):
                data += more
        except OSError:  # the other side is closed
            pass
        process.wait()
    os.close(mine)
    return tidied("\n".join(shown(data.decode().replace("\r\n", "\n"))), place)


def shown(text: str) -> list[str]:
    """The lines of a terminal that has got this text."""
    text = re.sub(r"\x1b\[(?!\d*[AK])[0-9;?]*[A-Za-z]", "", text)
    lines, row, at = [""], 0, 0
    for control in [*CONTROL.finditer(text), None]:
        lines[row] += text[at : control.start() if control else None]
        if control is None:
            break
        at = control.end()
        if control["break"]:
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif control["what"] == "A":
            row = max(0, row - int(control["number"] or 1))
        if control["start"] or control["what"]:
            lines[row] = ""
    return lines


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PPO2_", "DISPLAY", "WAYLAND"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return {
        **kept,
        "PATH": path,
        "COLUMNS": str(COLUMNS),
        "LINES": "40",
        "PYTHONPATH": str(ROOT / "src"),
        "IMAGES": str(DOCS / "images"),
        "XDG_RUNTIME_DIR": tempfile.gettempdir(),  # SDL, which draws, complains where there is none
    }


def tidied(text: str, place: Path) -> list[str]:
    """The lines without colours, and without the directory that they were printed in."""
    text = ESCAPES.sub("", text).replace(f"{place}/", "").replace(str(place), ".")
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def draw(page: Path, picture: Path, size: str) -> None:
    """A picture of a page in a browser, with its details closed."""
    page.write_text(page.read_text(encoding="utf-8").replace("<details open>", "<details>"), encoding="utf-8")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("the pictures of pages need Chromium (Debian: apt-get install chromium)")
    wide, high = size.split("x")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={wide},{high}"]
    command = [chromium, *flags, "--virtual-time-budget=4000", f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)


def take_frame(film: Path, picture: Path, number: str) -> None:
    import imageio.v3 as imageio

    imageio.imwrite(picture, imageio.imread(film, index=int(number)))


def copied(page: str, english: str) -> str:
    """The page with the screens of another one."""
    screens = {found[0].partition("\n")[0]: found[0] for found in MARK.finditer(english)}
    return MARK.sub(lambda mark: screens[mark[0].partition("\n")[0]], page)


def main() -> None:
    pages = [Path(name) for name in sys.argv[1:]] or sorted(DOCS.rglob("*.md"))
    for page in sorted(pages, key=lambda page: page.parent.name == "zh"):
        text = page.read_text(encoding="utf-8")
        if MARK.search(text) and page.parent.name == "zh":
            page.write_text(copied(text, (DOCS / page.name).read_text(encoding="utf-8")), encoding="utf-8")
        elif MARK.search(text):
            with tempfile.TemporaryDirectory() as place:
                page.write_text(written(text, Path(place)), encoding="utf-8")


if __name__ == "__main__":
    main()

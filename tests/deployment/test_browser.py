"""The page of examples/browser plays CartPole in real headless Chromium."""

import functools
import http.server
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

import ppo2
from support.runs import learn

PAGE = Path(__file__).parents[2] / "examples" / "browser"
CHROMIUM = shutil.which("chromium")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed (Debian's package chromium)")
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm isn't installed")
def test_the_page_plays(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    for file in PAGE.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"npm install failed: {installed.stderr.splitlines()[-1:]}")
    ppo2.export(learn(), onnx=tmp_path / "policy.onnx")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("CHROMIUM", str(CHROMIUM))
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        command = ["node", "check.mjs", address, "page.png"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr
    lengths = re.fullmatch(r"steps of each episode: (\d+), (\d+), (\d+)\n", done.stdout)
    assert lengths is not None
    assert all(8 <= int(length) <= 500 for length in lengths.groups())
    assert (tmp_path / "page.png").stat().st_size > 5_000

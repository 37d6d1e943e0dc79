"""The live report: its server, and the page in a real browser while a run goes on."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest

from ppo2.reports import watch
from support.browser import CHROMIUM, page_in_browser
from support.run_files import write_run_files


@pytest.fixture
def serve(monkeypatch):
    """A function that serves paths, and gives the port."""
    monkeypatch.setattr(watch, "REST", 0.0)
    monkeypatch.setattr(watch, "LEAST_REST", 0.0)
    servers = []

    def start(*paths):
        server = watch._server(0, watch.Source(paths))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server.server_port

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(port, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def test_the_page_and_its_news(serve, tmp_path):
    run = write_run_files(tmp_path / "x", updates=2)
    port = serve(run)
    answer, text = ask(port)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "2 of 40 updates" in text
    assert "connect-src 'self'" in text
    _, first = ask(port, "/state")
    news = json.loads(first)
    assert json.loads(ask(port, f"/state?after={news['version']}")[1]) == {"version": news["version"]}
    write_run_files(tmp_path / "x", updates=3)
    later = json.loads(ask(port, f"/state?after={news['version']}")[1])
    assert later["version"] != news["version"]
    assert "3 of 40 updates" in later["body"]
    assert len(later["charts"]) == len(news["charts"])


def test_files_are_not_read_again_at_once(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    source = watch.Source([write_run_files(tmp_path / "x", updates=2)])
    first, version = source.now(), source.version
    write_run_files(tmp_path / "x", updates=3)
    now[0] += 0.9 * watch.LEAST_REST
    assert (source.now(), source.version) == (first, version)
    now[0] += 0.2 * watch.LEAST_REST
    assert "3 of 40 updates" in watch.body(source.now())
    assert source.version != version


def test_a_run_that_has_not_begun(serve, tmp_path):
    port = serve(tmp_path / "later")
    assert "Not begun:" in ask(port)[1]
    write_run_files(tmp_path / "later")
    assert "finished" in ask(port)[1]


def test_only_this_machine_may_ask_and_only_to_read(serve, tmp_path):
    port = serve(write_run_files(tmp_path / "x"))
    assert ask(port, Host=f"localhost:{port}")[0].status == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1:1", ""):
        answer, text = ask(port, Host=host)
        assert (answer.status, "CartPole" in text) == (403, False)
    assert ask(port, "/../config.json")[0].status == 404
    assert ask(port, "/", "POST")[0].status == 501
    answer, text = ask(port, "/", "HEAD")
    assert (answer.status, text) == (200, "")


def test_a_port_in_use(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ValueError, match=rf"`port` \(={port}\) can't be had \(Address already in use\): give another"
        ):
            watch._server(port, watch.Source([tmp_path]))
        monkeypatch.setattr(watch, "PORT", port)
        with watch._server(None, watch.Source([tmp_path])) as server:
            assert port < server.server_port < port + watch.PORTS
        monkeypatch.setattr(watch, "PORTS", 1)
        with pytest.raises(ValueError, match=f"no port from {port} to {port} can be had"):
            watch._server(None, watch.Source([tmp_path]))
    with pytest.raises(ValueError, match=r"`port` \(=70000\) must be between 0 and 65535"):
        watch._server(70000, watch.Source([tmp_path]))


def test_long_logs_are_not_read_without_pause(tmp_path, monkeypatch):
    run = write_run_files(tmp_path / "x", updates=2)
    monkeypatch.setattr(watch, "LEAST_REST", 60.0)
    source = watch.Source([run])
    first = source.now()
    write_run_files(run, updates=3)
    assert source.now() is first


def test_ctrl_c_ends_the_command(tmp_path):
    # tests may run in the background of a script, where Ctrl-C is ignored and children inherit that
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from ppo2.cli import main; raise SystemExit(main())"
    )
    command = [sys.executable, "-c", program, "watch", str(write_run_files(tmp_path / "x")), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            address = line.split()[0]
            assert address.startswith("http://127.0.0.1:"), line
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert b"CartPole-v1" in answer.read()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
def test_the_page_follows_a_run_without_being_loaded_again(serve, tmp_path):
    port = serve(tmp_path / "x")
    with page_in_browser(tmp_path / "browser") as page:
        page.open(f"http://127.0.0.1:{port}/")
        page.evaluate("window.mine = 1")
        assert "Not begun" in page.evaluate("document.body.innerText")
        write_run_files(tmp_path / "x", updates=10, episodes=20)
        page.wait_for("document.querySelectorAll('.chart canvas').length > 3")
        page.evaluate("window.canvas = document.querySelector('#chart-approximate-kl-divergence canvas'); 1")
        page.evaluate("document.querySelector('details:not([open])').open = true")
        write_run_files(tmp_path / "x", updates=20, episodes=40)
        page.wait_for("document.body.innerText.includes('20 of 40 updates')")
        assert page.evaluate("document.querySelector('#chart-approximate-kl-divergence canvas') === window.canvas")
        assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
        page.move_mouse("#chart-return .u-over", 0.99, 0.5)
        at = page.evaluate("document.querySelector('#chart-return .u-legend .u-value').textContent")
        assert float(at.replace(",", "")) > 1900
        assert page.evaluate("window.mine") == 1
        assert page.said == []


def test_a_film_is_sent_once_for_each_version(serve, tmp_path):
    run = write_run_files(tmp_path / "x", updates=2)
    (run / "videos").mkdir()
    film = run / "videos" / "one.mp4"
    film.write_bytes(b"0123456789" * 1000)
    port = serve(run)
    text = ask(port)[1]
    (address,) = re.findall(r'<video src="(/film/[0-9a-f]+)"', text)
    assert "media-src data: 'self'" in text
    assert "base64" not in text.partition("<main")[2].partition("</main>")[0]
    answer, content = ask(port, address)
    assert (answer.status, answer.headers["Content-Type"], content) == (200, "video/mp4", "0123456789" * 1000)
    assert "immutable" in answer.headers["Cache-Control"]
    part, content = ask(port, address, Range="bytes=2-5")
    assert (part.status, part.headers["Content-Range"], content) == (206, "bytes 2-5/10000", "2345")
    assert ask(port, address, Range="bytes=9998-")[1] == "89"
    assert ask(port, address, Host="evil.example")[0].status == 403
    write_run_files(run, updates=3)
    news = json.loads(ask(port, "/state")[1])
    assert "3 of 40 updates" in news["body"]
    assert address in news["body"]
    film.write_bytes(b"new")
    os.utime(run / "videos")
    (later,) = re.findall(r'<video src="(/film/[0-9a-f]+)"', ask(port)[1])
    assert later != address
    assert ask(port, address)[0].status == 404
    assert ask(port, later)[1] == "new"
    assert ask(port, "/film/../config.json")[0].status == 404

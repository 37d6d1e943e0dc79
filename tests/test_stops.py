import os
import signal
import threading

import pytest

from ppo2.stops import StopSignals, raise_for

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _handlers_put_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_only_noted(number):
    with StopSignals() as stop:
        assert stop.received is None
        os.kill(os.getpid(), number)
        assert stop.received == number


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in SIGNALS for b in SIGNALS])
def test_a_second_signal_stops_at_once(first, second):
    with StopSignals() as stop:
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt if second == signal.SIGINT else SystemExit):
            os.kill(os.getpid(), second)
        assert stop.received == first


def test_handlers_are_put_back():
    def handler(*_):
        raise AssertionError

    signal.signal(signal.SIGTERM, handler)
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignals():
        assert all(signal.getsignal(n) != b for n, b in zip(SIGNALS, before, strict=True))
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(RuntimeError, match="inside"), StopSignals():
        raise RuntimeError("inside")
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_other_threads_leave_handlers_alone():
    before, seen = [signal.getsignal(number) for number in SIGNALS], []

    def train():
        with StopSignals() as stop:
            seen.append((stop.received, [signal.getsignal(number) for number in SIGNALS]))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_a_signal_means():
    with pytest.raises(KeyboardInterrupt):
        raise_for(signal.SIGINT)
    with pytest.raises(SystemExit) as stop:
        raise_for(signal.SIGTERM)
    assert stop.value.code == 143

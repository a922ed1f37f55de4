"""Stop signals that wait for a safe moment."""

from __future__ import annotations

import signal

import pytest

from authz.demo.signals import Stopped, StopSignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_at_the_next_pause(number: signal.Signals) -> None:
    """A signal interrupts nothing; the pause after it raises."""
    with StopSignals() as signals:
        signal.raise_signal(number)
        with pytest.raises(Stopped) as stopped:
            signals.pause(60)

    assert stopped.value.number == number


def test_a_pause_without_a_signal_ends() -> None:
    """Nothing is raised where no one asked."""
    with StopSignals() as signals:
        signals.pause(0)


def test_the_handlers_before_are_put_back() -> None:
    """After the demo, Ctrl-C is a KeyboardInterrupt again."""
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before

    assert signal.getsignal(signal.SIGTERM) == before

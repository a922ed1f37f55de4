"""Proves authz.runtime.readiness: ready once the keys are there, and never again once the drain has started."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from authz.runtime.readiness import Readiness

BOUND = 0.5  # seconds for which a thread that must wait is waited for


class Rig:
    """A readiness, and what health clients were shown, the latest last."""

    def __init__(self, *missing: str) -> None:
        self.missing = list(missing)
        self.shown: list[bool] = []
        self.before_show: Callable[[], object] = lambda: None
        self.on_look: Callable[[], object] = lambda: None
        self.readiness = Readiness(missing=self._look, show=self._show)

    def _look(self) -> list[str]:
        self.on_look()
        return self.missing

    def _show(self, ready: bool) -> None:  # noqa: FBT001 - a callback
        if ready:
            self.before_show()
        self.shown.append(ready)


def test_it_is_ready_once_nothing_is_missing() -> None:
    """Until then it says what it waits for."""
    rig = Rig("keys of a", "keys of b")
    looks: list[list[str]] = []

    def look() -> None:
        looks.append(rig.missing.copy())
        del rig.missing[:1]

    assert rig.readiness.waiting_for() == ["keys of a", "keys of b"]
    rig.on_look = look
    assert rig.readiness.await_ready()
    assert rig.shown == [True]
    assert len(looks) == 2


def test_once_ready_nothing_makes_it_unready_but_the_drain() -> None:
    """Keys that vanish later are one issuer's trouble."""
    rig = Rig()
    assert rig.readiness.await_ready()
    rig.missing.append("keys of a")
    assert rig.readiness.waiting_for() == []
    assert rig.readiness.drain()
    assert rig.readiness.waiting_for() == ["the end of the drain"]
    assert rig.shown == [True, False]


def test_a_drain_before_it_is_ready_is_the_end_of_it() -> None:
    """Anyone who waits for keys waits no more, also where they come just then."""
    rig = Rig("keys of a")
    rig.on_look = rig.readiness.drain
    assert not rig.readiness.await_ready()
    rig = Rig("keys of a")

    def come_late() -> None:
        rig.missing.clear()
        rig.readiness.drain()

    rig.on_look = come_late
    assert not rig.readiness.await_ready()
    assert True not in rig.shown
    assert not rig.readiness.drain()


def test_a_drain_that_begins_at_the_moment_of_readiness_has_the_last_word() -> None:
    """Health that says SERVING while the process drains would send it requests until it is gone."""
    rig = Rig()
    drain = Thread(target=rig.readiness.drain)

    def begin() -> None:
        drain.start()
        drain.join(BOUND)  # it must wait until what was decided has been shown

    rig.before_show = begin
    assert rig.readiness.await_ready()
    drain.join()
    assert rig.shown == [True, False]

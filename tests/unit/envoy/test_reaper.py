"""Proves authz.envoy.reaper: a call without a message holds its thread for a bounded time only."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import grpc
import pytest

from authz.envoy.reaper import CROWDED_WAIT, MAX_WAIT, MIN_WAIT, Reaper
from authz.envoy.service import HEALTH_METHOD, METHOD
from tests.fakes.clock import FakeClock
from tests.unit.envoy.asking import told, write_check
from tests.unit.envoy.serving import SECONDS, code_of, health_of, make_server, method


class Call:
    """A call that can be cancelled."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def test_overdue_call_is_cancelled() -> None:
    """Not before its time, and not after its message came."""
    clock, call = FakeClock(), Call()
    reaper = Reaper(monotonic=clock.monotonic)

    def wait_in_vain() -> bytes:
        clock.advance(MAX_WAIT - 0.001)
        assert reaper.reap() == 0
        clock.advance(0.001)
        assert reaper.reap() == 1
        return b""

    reaper.await_message(call, clock.monotonic(), wait_in_vain)
    assert call.cancelled
    assert reaper.reap() == 0


def test_call_that_stood_in_the_queue_gets_a_moment() -> None:
    """Its message has long arrived: it is read, where a half call is not waited for a second time."""
    clock, call = FakeClock(), Call()
    reaper = Reaper(monotonic=clock.monotonic)
    received = clock.monotonic()
    clock.advance(10)

    def read() -> bytes:
        assert reaper.reap() == 0
        clock.advance(MIN_WAIT)
        assert reaper.reap() == 1
        return b"message"

    assert reaper.await_message(call, received, read) == b"message"


def test_while_others_wait_half_a_call_gets_less_time() -> None:
    """A thousand half calls, each held for the whole time, would hold up whole ones for seconds."""
    clock, call, crowd = FakeClock(), Call(), [False]
    reaper = Reaper(monotonic=clock.monotonic, crowded=lambda: crowd[0])

    def wait_in_vain() -> bytes:
        clock.advance(CROWDED_WAIT)
        assert reaper.reap() == 0
        crowd[0] = True
        assert reaper.reap() == 1
        return b""

    reaper.await_message(call, clock.monotonic(), wait_in_vain)
    assert call.cancelled


@pytest.mark.parametrize("name", [METHOD, HEALTH_METHOD])
def test_half_calls_on_tcp_do_not_stop_the_others(name: str) -> None:
    """More calls without a message than there are threads, and a good one is still answered, and health too."""
    server = make_server()
    port = server.listen_tcp("127.0.0.1:0", credentials=None)
    server.start()
    never = Event()

    def no_message() -> Iterator[bytes]:
        never.wait(SECONDS)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(name)
        half = [call.future(no_message()) for _ in range(16)]
        try:
            assert told(method(channel)(write_check(), timeout=SECONDS)) == "token_missing"
            assert health_of(channel) == "NOT_SERVING"
            for ended in half:
                if name == HEALTH_METHOD:  # is answered without its message
                    assert ended.result(timeout=SECONDS)
                    continue
                with pytest.raises(grpc.RpcError) as error:
                    ended.result(timeout=SECONDS)
                assert code_of(error.value) is grpc.StatusCode.CANCELLED
        finally:
            never.set()
            server.stop(grace=0)

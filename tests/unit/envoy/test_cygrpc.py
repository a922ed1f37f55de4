"""Proves what the call loop takes for granted of `grpc._cython.cygrpc`, which gRPC promises to no one.

When a release of grpcio changes it, these tests say what has changed, without any code of ours in between: first the
names, then one behaviour after the other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it is compiled

from tests.tools import ROOT
from tests.unit.envoy.serving import SECONDS, method, short_folder

NAMES: Final = {
    "CompletionQueue": {"poll", "shutdown"},
    "Server": {
        *("register_completion_queue", "add_http2_port", "start", "request_call"),
        *("shutdown", "cancel_all_calls", "destroy"),
    },
    "ReceiveCloseOnServerOperation": {"cancelled"},
    "ReceiveMessageOperation": {"message"},
    "SendInitialMetadataOperation": set(),
    "SendMessageOperation": set(),
    "SendStatusFromServerOperation": set(),
    "StatusCode": {"ok", "unimplemented"},
}
HANG: Final = 120.0  # seconds until a test that waits for an event is given up
NO_FLAGS: Final = 0


@pytest.mark.parametrize("name", NAMES)
def test_names_are_there(name: str) -> None:
    """Classes and their methods have the names by which the loop calls them."""
    assert NAMES[name] <= set(dir(getattr(cygrpc, name)))


def test_no_name_is_used_that_is_not_listed() -> None:
    """The list above is whole: no module uses another name of cygrpc."""
    used = {
        name
        for file in (ROOT / "authz").rglob("*.py")
        for name in re.findall(r"\bcygrpc\.(\w+)", file.read_text(encoding="utf-8"))
    }
    assert used <= set(NAMES)


def test_credentials_are_where_the_server_looks() -> None:
    """Credentials that the public API makes hold what `add_http2_port` takes."""
    assert isinstance(grpc.local_server_credentials()._credentials, cygrpc.ServerCredentials)  # type: ignore[attr-defined]


class Serving:
    """A server of cygrpc alone, and what it has to say."""

    def __init__(self, address: str) -> None:
        self.queue = cygrpc.CompletionQueue()
        self.server = cygrpc.Server((("grpc.so_reuseport", 0),), False)  # noqa: FBT003 - no xDS
        self.server.register_completion_queue(self.queue)
        self.port = self.server.add_http2_port(address.encode())
        self.server.start()

    def next(self, tag: Callable[[Any], None]) -> Any:  # noqa: ANN401 - cygrpc has no types
        """Return the next event, which is that of *tag*."""
        event = self.queue.poll(time.time() + HANG)
        assert event.tag is tag
        return event

    def take(self) -> Any:  # noqa: ANN401 - as above
        """Return the event of the next call."""
        self.server.request_call(self.queue, self.queue, noted)
        return self.next(noted)

    def run(self, call: Any, *operations: Any) -> Any:  # noqa: ANN401 - as above
        """Start a batch that the core takes, and return its event."""
        assert not call.start_server_batch(operations, noted)
        return self.next(noted)


def noted(event: Any) -> None:  # noqa: ANN401 - as above
    """Be a tag: any object is one, and comes back as it is."""


@contextmanager
def calling(address: str) -> Iterator[grpc.Future[bytes]]:
    """Make a call that the test answers."""
    with grpc.insecure_channel(address) as channel:
        future = method(channel).future(b"question", timeout=HANG, metadata=(("x-name", "value"),))
        yield future  # which is cancelled when no one has it any more


@pytest.fixture
def address() -> Iterator[str]:
    """Where a test's server listens."""
    with short_folder() as folder:
        yield f"unix:{folder}/socket"


@pytest.fixture
def serving(address: str) -> Iterator[Serving]:
    """Serve, and end as the loop ends."""
    made = Serving(address)
    yield made
    made.server.shutdown(made.queue, noted)
    made.server.cancel_all_calls()
    while made.queue.poll(time.time() + HANG).tag is not noted:
        pass
    made.server.destroy()


def test_call_says_what_it_is(serving: Serving, address: str) -> None:
    """The event of a call has its method, deadline in Unix time and metadata, and the call itself."""
    before = time.time()
    with calling(address):
        event = serving.take()
        assert event.success
        assert event.call_details.method == b"/envoy.service.auth.v3.Authorization/Check"
        assert before < event.call_details.deadline <= time.time() + 1.1 * HANG  # gRPC rounds it up on its way
        assert ("x-name", "value") in [(key, value) for key, value in event.invocation_metadata]
        event.call.cancel()


def test_call_without_deadline_is_far_from_its_end(serving: Serving, address: str) -> None:
    """A caller that gives no deadline has one that can be reckoned with."""
    with grpc.insecure_channel(address) as channel:
        future = method(channel).future(b"question")
        event = serving.take()
        assert not future.done()
        assert event.call_details.deadline > time.time() + 86400
        event.call.cancel()


def test_message_is_read_and_answered(serving: Serving, address: str) -> None:
    """Three operations in one batch are an answer; the batch that reads gives the message as bytes."""
    with calling(address) as future:
        call = serving.take().call
        event = serving.run(call, cygrpc.ReceiveMessageOperation(NO_FLAGS))
        assert event.batch_operations[0].message() == b"question"
        event = serving.run(
            call,
            cygrpc.SendInitialMetadataOperation(None, NO_FLAGS),
            cygrpc.SendMessageOperation(b"answer", NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", NO_FLAGS),
        )
        assert event.success
        assert future.result(SECONDS) == b"answer"


def test_call_is_refused_before_its_message_is_read(serving: Serving, address: str) -> None:
    """A status can be sent unread, in one batch with what waits for the end."""
    with calling(address) as future:
        event = serving.run(
            serving.take().call,
            cygrpc.SendInitialMetadataOperation(None, NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.unimplemented, b"no such method", NO_FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),
        )
        assert event.success
        with pytest.raises(grpc.RpcError, match="no such method"):
            future.result(SECONDS)
        assert future.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_caller_that_goes_is_seen(serving: Serving, address: str) -> None:
    """The end of a call says whether its caller has gone."""
    with calling(address) as future:
        call = serving.take().call
        assert not call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),), noted)
        future.cancel()
        assert serving.next(noted).batch_operations[0].cancelled()


def test_call_is_cancelled(serving: Serving, address: str) -> None:
    """`cancel` ends a call with CANCELLED, and its end is reported."""
    with calling(address) as future:
        call = serving.take().call
        call.cancel()
        assert serving.run(call, cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS)).batch_operations[0].cancelled()
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            future.result(SECONDS)


def test_batch_that_is_no_batch_is_told(serving: Serving, address: str) -> None:
    """What the core does not take is a number other than 0, or raises: it is never silent."""
    with calling(address):
        call = serving.take().call
        message = cygrpc.SendMessageOperation(b"answer", NO_FLAGS)
        try:
            error = call.start_server_batch((message, message), noted)
        except (RuntimeError, ValueError, AssertionError):
            error = -1
        assert error
        call.cancel()


def test_poll_ends_at_its_deadline(serving: Serving) -> None:
    """`poll` takes Unix time; one that is past is a look, and its event has no tag."""
    assert serving.queue.poll(0.0).tag is None
    assert serving.queue.poll(time.time() + 0.01).tag is None


def test_shutdown_gives_back_what_was_asked_for(address: str) -> None:
    """A call that was asked for and did not come is an event without success; then comes the shutdown's own."""
    made = Serving(address)
    made.server.request_call(made.queue, made.queue, noted)

    def ended(event: Any) -> None:  # noqa: ANN401 - as above
        """Be the tag of the shutdown."""

    made.server.shutdown(made.queue, ended)
    assert not made.next(noted).success
    made.next(ended)
    with pytest.raises(ValueError, match="server must be started and not shutting down"):
        made.server.request_call(made.queue, made.queue, noted)
    made.server.destroy()


def test_port_that_is_taken_is_told() -> None:
    """`add_http2_port` returns the port, and 0 or an error where it cannot listen."""
    made = Serving("127.0.0.1:0")
    assert made.port > 0
    other = cygrpc.Server((("grpc.so_reuseport", 0),), False)  # noqa: FBT003 - no xDS
    try:
        assert not other.add_http2_port(f"127.0.0.1:{made.port}".encode())
    except RuntimeError as error:
        assert "127.0.0.1" in str(error)  # noqa: PT017 - either is right
    made.server.shutdown(made.queue, noted)
    made.next(noted)
    made.server.destroy()

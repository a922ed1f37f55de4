"""A real browser without a window, driven over its DevTools protocol by a pipe: no driver, no further dependency."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from authz.runtime.process import Process
from tests.fakes.waiting import wait_until
from tests.leaks import children, command
from tests.tools import path

_READS: Final = 3  # the descriptors that Chromium reads commands from and writes answers to
_WRITES: Final = 4
_CHUNK: Final = 1 << 20
_LOOK_SECONDS: Final = 1.0  # at whether the browser still runs
_ARGUMENTS: Final = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "about:blank",
)
# Notes what the page's policy forbade; axe and our questions run in the page, and are no part of it.
_WATCH: Final = """
window.violations = [];
document.addEventListener('securitypolicyviolation',
  event => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class Browser:
    """One browser with one tab."""

    def __init__(self, commands: int, answers: int, child: Process) -> None:
        self._commands: Final = commands
        self._answers: Final = answers
        self._child: Final = child
        self._ids: Final = count(1)
        self._buffer = b""
        self._messages: Final[deque[dict[str, Any]]] = deque()
        self._session = ""
        self.complaints: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)

    def open(self, url: str) -> int:
        """Open a page and return the status of the answer."""
        self._call("Page.navigate", url=url)
        return self._loaded(url)

    def follow(self, script: str) -> int:
        """Run a *script* that leads to another page, and return the status of that page."""
        self._send("Runtime.evaluate", expression=script)
        return self._loaded()

    def run(self, script: str) -> Any:  # noqa: ANN401 - what a script returns
        """Return what *script*, an expression, evaluates to; a promise is awaited."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press one of Tab and Enter."""
        code, text = {"Tab": (9, ""), "Enter": (13, "\r")}[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self._call("Input.dispatchKeyEvent", type="keyUp", **common)

    def enter(self) -> int:
        """Press Enter where that leads to another page, and return its status."""
        common = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        self._send("Input.dispatchKeyEvent", type="keyDown", text="\r", **common)
        return self._loaded()

    def show(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window and the colours that its user likes."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, file: Path) -> None:
        """Write what the window shows as PNG."""
        data = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=False)["data"]
        file.write_bytes(base64.b64decode(data))

    def _loaded(self, url: str | None = None) -> int:
        status = 0
        while True:
            message = self._next()
            if message.get("method") == "Network.responseReceived" and message["params"]["type"] == "Document":
                status = int(message["params"]["response"]["status"])
            if message.get("method") == "Page.loadEventFired":
                break
        assert url is None or self.run("location.href").startswith(url.partition("?")[0])
        return status

    def _call(self, method: str, **params: Any) -> Any:  # noqa: ANN401 - of the protocol
        number = self._send(method, **params)
        while (message := self._next(number)).get("id") != number:
            pass
        assert "error" not in message, message
        return message["result"]

    def _send(self, method: str, **params: Any) -> int:  # noqa: ANN401 - as above
        number = next(self._ids)
        session = {"sessionId": self._session} if self._session else {}
        data = json.dumps({"id": number, "method": method, "params": params, **session}).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        return number

    def _next(self, answer_to: int = 0) -> dict[str, Any]:
        """Return the next message: an event that came before, unless an answer is waited for."""
        if not answer_to and self._messages:
            return self._messages.popleft()
        while True:
            while b"\0" not in self._buffer:
                while not select.select([self._answers], [], [], _LOOK_SECONDS)[0]:
                    assert self._child.poll() is None, "the browser has ended"
                self._buffer += os.read(self._answers, _CHUNK)
            line, _, self._buffer = self._buffer.partition(b"\0")
            message: dict[str, Any] = json.loads(line)
            self._listen(message)
            if not answer_to or message.get("id") == answer_to:
                return message
            self._messages.append(message)

    def _listen(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Runtime.exceptionThrown" | "Page.javascriptDialogOpening":
                self.complaints.append(str(params))
            case _:
                pass


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser, and end it."""
    with ExitStack() as parts:
        profile = parts.enter_context(TemporaryDirectory(ignore_cleanup_errors=True))
        nothing = os.open(os.devnull, os.O_RDWR)
        reads, commands = os.pipe()
        answers, writes = os.pipe()
        for end in (nothing, reads, commands, answers, writes):
            parts.callback(os.close, end)
        assert min(reads, writes) > _WRITES
        child = Process(
            [path("chromium"), f"--user-data-dir={profile}", *_ARGUMENTS],
            descriptors={0: nothing, 1: nothing, 2: nothing, _READS: reads, _WRITES: writes},
        )
        parts.callback(_end, child)
        yield Browser(commands, answers, child)


def _end(child: Process) -> None:
    child.send(signal.SIGTERM)
    wait_until(lambda: child.poll() is not None)
    wait_until(_handlers_have_ended)


def _handlers_have_ended() -> bool:
    """Whether the browser's crash handlers, which are orphans and so ours, noticed its end: on a busy machine later."""
    handlers = [pid for pid in children() if "crashpad_handler" in command(pid)]
    return all(os.waitpid(pid, os.WNOHANG) != (0, 0) for pid in handlers)

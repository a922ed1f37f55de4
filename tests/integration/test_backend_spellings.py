"""What real backends make of a path, and that the sidecar never opens by a weak rule what they serve from a strict one.

Thousands of spellings are judged and sent, as they are, to nginx, to Python's own file server, and to routers that read
paths as other servers are known to. Envoy could pass each of them on unchanged.
"""

from __future__ import annotations

import posixpath
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import unquote

import pytest

from authz.core.authorize import authorize
from authz.core.decision import Allow, Decision
from authz.core.policy import AccessMode, Policy
from authz.core.reasons import Reason
from authz.core.request import AmbiguousEncoding, Request
from authz.core.snapshot import Snapshot
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.fixtures import DEFAULT_SNAPSHOT, T, claim, mint, rule
from tests.tools import path as tool

SECRET: Final = "secret of the protected tree"
DOTS: Final = (
    *("..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..;", "..;x=1", "..%3b", "%c0%ae%c0%ae", "%e0%80%ae."),
    *("...", "..%20", "..%00", "..%09", "%20..", "%2e%2e%2f..", "..\\..", "..%5c..", "x"),
)
SLASHES: Final = (
    *("/", "//", "/./", "/%2e/", "%2f", "%2F", "%252f", "%5c", "\\", "%255c", "/;/", ";/", "/;x=1/", "%3b/"),
    *("%c0%af", "%e0%80%af", "/%00/", "/%0a", "/%20/", "?/", "%3f/", "#/", "%23/", "///"),
)
STARTS: Final = ("", "/public", "/files", "/files/x", "/Public", "/%70ublic")
ENDS: Final = ("admin/secret", "%61dmin/secret", "admin%2fsecret", "admin//secret", "ADMIN/secret", "admin;v=1/secret")


def spellings() -> Iterator[str]:
    """Ways to write a path that some server may take for /admin/secret."""
    for start, before, dots, after, end in product(STARTS, SLASHES, DOTS, SLASHES, ENDS[:1]):
        yield f"{start}{before}{dots}{after}{end}"
    for start, slash, end in product(STARTS, SLASHES, ENDS):
        yield f"{start}{slash}{end}"
        yield f"/{start}{slash}{end}"


STRICT: Final = rule("admin", "/admin/**", claims=(claim("groups", "nobody-has-it"),))
WEAK: Final = Snapshot(
    issuers=DEFAULT_SNAPSHOT.issuers,
    policy=Policy(
        [
            STRICT,
            rule("public", "/public/**", allow=AccessMode.PUBLIC),
            rule("files", "/files/**", accept=frozenset(AmbiguousEncoding)),
        ]
    ),
)
TOKEN: Final = mint()


def judge(path: str) -> Decision:
    """Judge a request for *path*, with a token that opens nothing strict."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    return authorize(Request(method="GET", host="x", path=path, headers=headers), WEAK, T)


@pytest.fixture(scope="module")
def judged() -> dict[str, bool]:
    """Every spelling, and whether the sidecar lets it pass by a rule that is weaker than the strict one."""
    return {path: isinstance(judge(path), Allow) for path in spellings()}


Serve = Callable[[str], str]


def write_trees(folder: Path) -> None:
    """Put a secret below admin, and something to serve below the open trees."""
    for name, text in (("admin/secret", SECRET), ("public/page", "open"), ("files/page", "open")):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")


def ask_raw(connect: Callable[[], socket.socket], target: str) -> str:
    """Send the target as it is, and return all that comes back."""
    with connect() as connection:
        connection.sendall(f"GET {target} HTTP/1.0\r\nHost: x\r\n\r\n".encode("latin-1", "replace"))
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces).decode("latin-1")


NGINX: Final = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen unix:{folder}/files.sock; root {folder}/www; }}
  server {{ listen unix:{folder}/raw.sock; root {folder}/www; merge_slashes off; }}
  server {{
    listen unix:{folder}/routes.sock;
    location /admin {{ return 200 "{secret}"; }}
    location ~* ^/+admin {{ return 200 "{secret}"; }}
    location / {{ return 404; }}
  }}
}}
"""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Serve]]:
    """Run nginx: as a file server with slashes merged and not, and as a router by location."""
    folder = tmp_path_factory.mktemp("nginx")
    write_trees(folder / "www")
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, secret=SECRET), encoding="ascii")
    process = subprocess.Popen([tool("nginx"), "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL)

    def connect(name: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(HANG_SECONDS)
        connection.connect(str(folder / f"{name}.sock"))
        return connection

    try:
        wait_until((folder / "routes.sock").exists)
        yield {name: partial(ask_raw, partial(connect, name)) for name in ("files", "raw", "routes")}
    finally:
        process.terminate()
        process.wait(HANG_SECONDS)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Run the file server of Python's standard library."""
    folder = tmp_path_factory.mktemp("python")
    write_trees(folder)

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    address = ("127.0.0.1", server.server_address[1])
    yield partial(ask_raw, partial(socket.create_connection, address, timeout=HANG_SECONDS))
    server.shutdown()
    server.server_close()


def route(path: str) -> str:
    """Serve what lies below /admin, by a path that was resolved and has its slashes merged."""
    resolved = re.sub("/+", "/", posixpath.normpath("/" + path))
    return SECRET if resolved == "/admin" or resolved.startswith("/admin/") else ""


def path_of(target: str) -> str:
    """Return the target's path, without query and fragment."""
    return re.split("[?#]", target, maxsplit=1)[0]


def decode_bytes_loosely(path: str) -> str:
    """Decode as a careless reader of UTF-8 does: overlong forms are what they would be without the excess."""
    text = unquote(path, encoding="latin-1")
    for odd, plain in (("\xc0\xae", "."), ("\xc0\xaf", "/"), ("\xe0\x80\xae", "."), ("\xe0\x80\xaf", "/")):
        text = text.replace(odd, plain)
    return text


ROUTERS: Final[dict[str, Serve]] = {
    "decoded path": lambda target: route(unquote(path_of(target))),
    "path that is resolved, then decoded": lambda target: route(unquote(posixpath.normpath(path_of(target)))),
    "path decoded twice": lambda target: route(unquote(unquote(path_of(target)))),
    "parameters dropped after each semicolon": lambda target: route(unquote(re.sub(";[^/]*", "", path_of(target)))),
    "parameters dropped after decoding": lambda target: route(re.sub(";[^/]*", "", unquote(path_of(target)))),
    "backslashes for slashes": lambda target: route(unquote(path_of(target)).replace("\\", "/")),
    "text cut at NUL": lambda target: route(unquote(path_of(target)).partition("\0")[0]),
    "overlong UTF-8": lambda target: route(decode_bytes_loosely(path_of(target))),
    "spaces trimmed from each segment": lambda target: route(
        "/".join(part.strip() for part in unquote(path_of(target)).split("/"))
    ),
}


def check(serve: Serve, judged: dict[str, bool], *, least: int, every: int = 1) -> None:
    """Send what passes: none gets the secret. Send every n-th that is refused: at least so many would have got it."""
    passed = [path for path, passes in judged.items() if passes]
    assert passed
    assert [path for path in passed if SECRET in serve(path)] == []
    refused = [path for path, passes in judged.items() if not passes]
    assert sum(SECRET in serve(path) for path in refused[::every]) >= least


@pytest.mark.parametrize("router", ROUTERS.values(), ids=ROUTERS)
def test_routers(router: Serve, judged: dict[str, bool]) -> None:
    """However a server is known to read paths, it serves nothing protected for what a weak rule lets pass."""
    check(router, judged, least=100)


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("name", ["files", "raw", "routes"])
def test_nginx(name: str, nginx: dict[str, Serve], judged: dict[str, bool]) -> None:
    """The same by nginx, the real one."""
    check(nginx[name], judged, least=100)


def test_python(python: Serve, judged: dict[str, bool]) -> None:
    """The same by the file server of Python's standard library."""
    check(python, judged, least=10, every=50)


def test_a_careless_judge_would_have_been_fooled(judged: dict[str, bool]) -> None:
    """Judging by the beginning of the raw path would let through what each of these routers serves from /admin."""
    careless = [path for path in judged if path.startswith(("/public", "/files"))]
    assert all(any(SECRET in router(path) for path in careless) for router in ROUTERS.values())


def test_what_is_meant_passes() -> None:
    """Plain paths pass by their rules, and the strict one asks for more."""
    assert judge("/public/page").reason is Reason.PUBLIC
    assert judge("/files/page").reason is Reason.AUTHENTICATED
    assert judge("/files/a%2Fb;v=1").reason is Reason.AUTHENTICATED
    assert judge("/admin/secret").reason is Reason.POLICY_DENIED

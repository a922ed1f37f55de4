"""Starts the frameworks: one process for those of a language, a port of its own for each."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from authz.demo.process import Process
from tests.fakes.ports import free_address
from tests.fakes.waiting import HANG_SECONDS
from tests.frameworks.requests import PAGE, ROUTES, Route
from tests.tools import ROOT, TOOLS, path

BUILT: Final = TOOLS / "frameworks"
SOURCES: Final = ROOT / "tests/frameworks"


@dataclass(frozen=True, slots=True)
class Program:
    """A process that serves *names*, each by an argument `NAME=PORT`; *lacks* are routes that none of them has."""

    tool: str
    command: tuple[str, ...]
    names: tuple[str, ...]
    lacks: frozenset[str] = frozenset()
    environment: tuple[str, ...] = ()


PROGRAMS: Final = (
    Program(
        "frameworks/python",
        (f"{BUILT}/python/bin/python", f"{SOURCES}/python/servers"),
        ("flask", "django", "starlette", "bottle", "falcon", "aiohttp", "tornado"),
    ),
    Program(
        "frameworks/node",
        ("node", f"{BUILT}/node/server.mjs"),
        ("express4", "express5", "fastify", "koa", "hapi"),
    ),
    Program("frameworks/python", (f"{BUILT}/python/bin/python", f"{SOURCES}/python/servers"), ("gunicorn",)),
    Program("frameworks/go", (f"{BUILT}/go/frameworks",), ("go", "echo")),
    Program("frameworks/more", (f"{BUILT}/more/frameworks",), ("gin", "chi", "fiber", "gorilla")),
    Program("frameworks/caddy", (f"{BUILT}/caddy/caddy",), ("caddy",)),
    Program(
        "frameworks/java",
        ("java", "-cp", f"{BUILT}/java/target/classes:{BUILT}/java/target/dependency/*", "Frameworks"),
        ("jetty", "spring"),
        frozenset({"cache"}),
        # As in a pod: Spring Boot then believes X-Forwarded-Host.
        ("KUBERNETES_SERVICE_HOST=10.0.0.1", "KUBERNETES_SERVICE_PORT=443"),
    ),
    Program("nginx", (), ("nginx", "nginx-slashed"), frozenset({"admin", "remove", "cache"})),
)


def row_of(name: str) -> str:
    """Return the name under which the table has a framework."""
    return {"express4": "express", "express5": "express", "gunicorn": "flask"}.get(name, name.partition("-")[0])


def program_of(name: str) -> Program:
    """Return the program that serves *name*."""
    return next(program for program in PROGRAMS if name in program.names)


def routes_of(name: str) -> list[Route]:
    """Return the routes that a framework has."""
    return [route for route in ROUTES if route.name not in program_of(name).lacks]


@contextmanager
def serving(names: Iterable[str], folder: Path) -> Iterator[Mapping[str, str]]:
    """Start those frameworks, and return the address of each once it serves all of its routes."""
    addresses = {name: free_address() for name in names}
    with ExitStack() as running:
        started: dict[str, Process] = {}
        for program in PROGRAMS:
            own = {name: addresses[name] for name in program.names if name in addresses}
            if own:
                ports = [f"{name}={address.rpartition(':')[2]}" for name, address in own.items()]
                command = [path("env"), *program.environment, *program.command, *ports] if program.command else None
                process = Process(
                    ", ".join(own),
                    command or _nginx(own, folder),
                    log=folder / f"{next(iter(own))}.log",
                    fix=f"make .tools/{program.tool}",
                )
                process.start()
                running.callback(process.stop)
                started |= dict.fromkeys(own, process)
        for name, address in addresses.items():
            for route in (PAGE, *routes_of(name)):
                started[name].wait_until(partial(_serves, address, route))
        yield addresses


def _serves(address: str, route: Route) -> bool:
    return ask(address, route) == (200, route.name)


def ask(address: str, route: Route, **headers: str) -> tuple[int, str]:
    """Send a framework the request of one route; return status and the name of the route that served it, if any."""
    connection = http.client.HTTPConnection(address, timeout=HANG_SECONDS)
    try:
        connection.request(route.method, route.path, headers={"host": route.host} | headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-route", "")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


_NGINX: Final = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log crit;
events {{ }}
http {{
  access_log off; root {folder}/www;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  {servers}
}}
"""
# What is served for every method is text; what is served for GET alone, a file.
_SERVER: Final = """
  server {{
    listen {address};
    location = /public/page {{ add_header x-route page; return 200; }}
    location = /api/kiss {{ add_header x-route kiss; return 200; }}
    location {manage} {{ add_header x-route manage; return 200; }}
    location ~ ^/orders/[^/]+$ {{ add_header x-route orders; return 200; }}
    location = /reports {{ add_header x-route reports; }}
    location = /console {{ if ($host != intern.test) {{ return 404; }} add_header x-route console; return 200; }}
    location / {{ return 404; }}
  }}
"""


def _nginx(addresses: Mapping[str, str], folder: Path) -> list[str]:
    """Write the configuration of an nginx, and return the command that runs it.

    `nginx-slashed` ends its location of a prefix in a slash.
    """
    (folder / "www").mkdir()
    (folder / "www/reports").write_text("report", encoding="ascii")
    manage = {"nginx": "/manage", "nginx-slashed": "/manage/"}
    servers = "".join(_SERVER.format(address=address, manage=manage[name]) for name, address in addresses.items())
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, servers=servers), encoding="ascii")
    return [path("nginx"), "-p", str(folder), "-c", str(config)]

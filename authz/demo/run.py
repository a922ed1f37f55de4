"""`authz demo`: the stack with curl lines to paste, until Ctrl-C; or all requests sent once and checked."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from authz.demo.process import PartFailed
from authz.demo.requests import AFTER_ROTATION, REQUESTS, Outcome, exit_status
from authz.demo.signals import Stopped, StopSignals
from authz.demo.stack import DemoStack, run_stack

ROTATE_EVERY_SECONDS = 60.0
_CHECK_EVERY_SECONDS = 0.5
_DIFFERS = """\
  Your own setup will differ in two ways. This Envoy accepts headers with a _, so that you see the sidecar remove
  X_Auth_Subject; one from `authz envoy-config` answers 400 to them. And a denial shows its reason (expose_reason)."""


def run(*, once: bool = False, as_json: bool = False, rotate_every: float = ROTATE_EVERY_SECONDS) -> int:
    """Run the stack and return the exit status.

    Without `once` it runs until SIGINT, SIGTERM or SIGHUP, which is success. With `once` it is success if every request
    passed, and `as_json` prints a JSON document instead of the table. After a failure, the folder with configurations
    and logs is kept.
    """
    folder = Path(tempfile.mkdtemp(prefix="authz-demo-"))
    every = None if once else rotate_every
    status = 1
    try:
        with StopSignals() as signals, run_stack(folder, rotate_every=every, pause=signals.pause) as stack:
            if once:
                outcomes = list(_send_steps(stack, signals))
                _print_outcomes(outcomes, as_json=as_json)
                status = exit_status(outcomes)
            else:
                _print_introduction(stack, rotate_every=rotate_every)
                while True:
                    stack.check()
                    signals.pause(_CHECK_EVERY_SECONDS)
    except Stopped as stopped:
        status = 128 + stopped.number if once else 0
    except PartFailed as failure:
        Console(stderr=True).print(Text(str(failure)), soft_wrap=True)
        status = 1
    if status == 1:
        Console(stderr=True).print(Text(f"Configurations and logs: {folder}"), soft_wrap=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return status


def _send_steps(stack: DemoStack, signals: StopSignals) -> Iterator[Outcome]:
    """Send every request, then one with a token by a key that the sidecar has not seen yet."""
    for step in (*REQUESTS, AFTER_ROTATION):
        signals.pause(0)
        if step is AFTER_ROTATION:
            stack.provider.rotate()
        yield step.send(front=stack.envoy.url, issuer=stack.provider.issuer)


def _print_outcomes(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([outcome.to_json() for outcome in outcomes], indent=2))  # noqa: T201 - for a program to read
        return
    table = Table("request", "status", Column("reason", no_wrap=True), "upstream's view", "", box=box.SIMPLE)
    for outcome in outcomes:
        verdict = Text("ok", "green") if outcome.passed else Text("WRONG", "bold red")
        table.add_row(outcome.step.title, str(outcome.status), outcome.reason, outcome.view, verdict)
    console = Console()
    console.print(table)
    for outcome in outcomes:
        if not outcome.passed:
            console.print(Text(f"{outcome.step.title}: expected {outcome.step.expected}", "bold red"))


def _print_introduction(stack: DemoStack, *, rotate_every: float) -> None:
    """Print what runs where, and what to paste."""
    front, issuer = stack.envoy.url, stack.provider.issuer
    lines = [
        Text("authz demo: everything runs on this machine, on embedded parts.", "bold"),
        Text(f"""
  Envoy              {front}  (admin {stack.envoy.admin_url})
  sidecar            unix:{stack.socket}  (metrics {stack.sidecar.admin_url}/metrics)
  identity provider  {issuer}  (signs with a new key every {rotate_every:g} s, until you POST {issuer}/rotate)
  upstream           {stack.upstream_url}  (echoes each request, and verifies the sidecar's token)
  logs               {stack.folder}
"""),
        Text("Paste these in another terminal, as often as you like:", "bold"),
        Text(_DIFFERS, "dim"),
    ]
    for step in REQUESTS:
        lines += [Text(f"\n# {step.title}: {step.expected}", "dim"), Text(step.curl(front=front, issuer=issuer))]
    lines.append(Text("\nCtrl-C stops everything.", "bold"))
    console = Console(highlight=False)
    for line in lines:
        console.print(line, soft_wrap=True)  # a pasted line must not be broken

"""`authz demo`: the scene with curl lines to paste, until Ctrl-C; or played through once, and judged."""

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
from authz.demo.requests import AFTER_ROTATION, TOUR, Outcome, exit_status
from authz.demo.scene import Scene, play
from authz.demo.signals import Stopped, StopSignals

ROTATE_EVERY_SECONDS = 60.0
_LOOK_EVERY_SECONDS = 0.5
_DIFFERS = """\
  Yours will differ in two things. This Envoy takes headers with a _, so that you see the sidecar remove X_Auth_Subject;
  one from `authz envoy-config` answers 400 to them. And clients here learn the reason of a denial (expose_reason)."""


def run(*, once: bool = False, as_json: bool = False, rotate_every: float = ROTATE_EVERY_SECONDS) -> int:
    """Play the scene and return the exit status.

    Without `once` it stays up until SIGINT, SIGTERM or SIGHUP, which is success. With `once` it is success when every
    request went as it should, and `as_json` prints a JSON document in place of the table. When something failed, the
    folder with configurations and logs is left.
    """
    folder = Path(tempfile.mkdtemp(prefix="authz-demo-"))
    every = None if once else rotate_every
    status = 1
    try:
        with StopSignals() as signals, play(folder, rotate_every=every, pause=signals.pause) as scene:
            if once:
                outcomes = list(_visits(scene, signals))
                _print_outcomes(outcomes, as_json=as_json)
                status = exit_status(outcomes)
            else:
                _introduce(scene, rotate_every=rotate_every)
                while True:
                    scene.check()
                    signals.pause(_LOOK_EVERY_SECONDS)
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


def _visits(scene: Scene, signals: StopSignals) -> Iterator[Outcome]:
    """Send every request, then one with a token by a key that the sidecar has not seen yet."""
    for visit in (*TOUR, AFTER_ROTATION):
        signals.pause(0)
        if visit is AFTER_ROTATION:
            scene.provider.rotate()
        yield visit.send(front=scene.envoy.url, issuer=scene.provider.issuer)


def _print_outcomes(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([outcome.to_json() for outcome in outcomes], indent=2))  # noqa: T201 - for a program to read
        return
    table = Table("request", "status", Column("reason", no_wrap=True), "upstream's view", "", box=box.SIMPLE)
    for outcome in outcomes:
        verdict = Text("ok", "green") if outcome.as_it_should else Text("WRONG", "bold red")
        table.add_row(outcome.visit.title, str(outcome.status), outcome.reason, outcome.view, verdict)
    console = Console()
    console.print(table)
    for outcome in outcomes:
        if not outcome.as_it_should:
            console.print(Text(f"{outcome.visit.title}: expected {outcome.visit.expected}", "bold red"))


def _introduce(scene: Scene, *, rotate_every: float) -> None:
    """Say what runs where, and what to paste."""
    front, issuer = scene.envoy.url, scene.provider.issuer
    lines = [
        Text("authz demo: everything runs on this machine, on embedded parts.", "bold"),
        Text(f"""
  Envoy              {front}  (admin {scene.envoy.admin_url})
  sidecar            unix:{scene.socket}  (metrics {scene.sidecar.admin_url}/metrics)
  identity provider  {issuer}  (signs with a new key every {rotate_every:g} s, until you POST {issuer}/rotate)
  upstream           {scene.upstream_url}  (answers with what it got)
  logs               {scene.folder}
"""),
        Text("Paste these in another terminal, as often as you like:", "bold"),
        Text(_DIFFERS, "dim"),
    ]
    for visit in TOUR:
        lines += [Text(f"\n# {visit.title}: {visit.expected}", "dim"), Text(visit.curl(front=front, issuer=issuer))]
    lines.append(Text("\nCtrl-C stops everything.", "bold"))
    console = Console(highlight=False)
    for line in lines:
        console.print(line, soft_wrap=True)  # a pasted line must not be broken

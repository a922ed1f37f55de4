"""The steps of the Dockerfile run, and what they make runs confined as the chart says. Only root may do this."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart import image
from tests.chart.helm import DEPLOY, Charts, container, only
from tests.fakes.waiting import HANG_SECONDS, wait_until

pytestmark = [
    pytest.mark.needs("helm", "unshare", "nsenter", "setpriv", "chroot"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a root"),
    pytest.mark.xdist_group("chart-container"),
]


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """The folder of all changes that the build stage makes."""
    with tempfile.TemporaryDirectory(prefix="authz-image-") as folder:
        image.build(Path(folder))
        yield Path(folder)


def test_nothing_else_is_compiled_and_nothing_is_left_over(built: Path) -> None:
    """The image holds what the lock names and the wheel, without tools to build or to install, and is small."""
    app = built / "upper/app"
    names = {entry.name for entry in app.iterdir()}
    assert {"authz", "grpc", "jwcrypto", "yaml"} <= names
    assert not names & {"pip", "setuptools", "hatchling", "mypy", "pytest", "bin"}
    assert list((app / "authz").glob("compiled__mypyc*.so"))
    lock = (DEPLOY / "requirements.lock").read_text().splitlines()
    locked = {plain(line.partition("==")[0]) for line in lock if "==" in line}
    installed = {plain(name.partition("-")[0]) for name in names if name.endswith(".dist-info")}
    assert installed - locked == {"authz_sidecar"}
    assert sum(file.stat().st_size for file in app.rglob("*") if file.is_file()) < 150 * 1024 * 1024


def plain(name: str) -> str:
    """The name of a distribution in one spelling."""
    return name.lower().replace("-", "_").replace(".", "_")


def test_wheel_is_the_same_wherever_it_is_built(built: Path) -> None:
    """The same source makes the same bytes in another folder, at another time.

    What decides is made again: the C sources, some of the objects, the extension modules and the wheel. The longest C
    sources, if they are the same, are not compiled again.
    """
    compiled = built / "upper" / image.COMPILER.lstrip("/") / "kept/compiled"
    before = compiled.read_text().splitlines()
    (wheel,) = (built / "upper/dist").glob("*.whl")
    steps = "cp -r /src /elsewhere && cd /elsewhere && /build/bin/hatchling build --target wheel --directory /again"
    environment = image.read()[0].environment | {"PATH": f"{image.COMPILER}:{image.PATH}"}
    done = image.enter(built, "rw", ["/bin/sh", "-ec", steps], environment)
    assert done.returncode == 0, done.stderr
    again = compiled.read_text().splitlines()[len(before) :]
    assert [source for source in again if "authz___core___" in source]
    assert (built / "upper/again" / wheel.name).read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "__pycache__" in name or name.startswith("tests")]


def test_it_runs_confined_as_the_chart_says(built: Path, charts: Charts) -> None:
    """Uid 65532, no capability, a read-only root, a socket of 0660: it serves, and only its group gets in."""
    documents = charts.case(charts.app, charts.app / "ci/proxy-values.yaml")
    spec = only(documents, "Deployment")["spec"]["template"]["spec"]
    config = only(documents, "ConfigMap", name="orders-authz")["data"]["authz.yaml"]
    (built / "etc-authz").mkdir()
    # The admin port may be taken on this machine.
    (built / "etc-authz/authz.yaml").write_text(config.replace("0.0.0.0:9192", "127.0.0.1:0"), encoding="utf-8")
    image.put_python(built)
    final = image.read()[1]
    entry = json.loads(final.find("ENTRYPOINT"))
    environment = final.environment | {"PATH": image.PATH}
    command = image.entering(built, "ro", [*image.CONFINED, *entry, *container(spec, "authz")["args"]])
    log = built / "log"
    with log.open("wb") as stream:
        sidecar = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
    try:
        wait_until(lambda: "serves on" in log.read_text() or sidecar.poll() is not None)
        assert sidecar.poll() is None, log.read_text()
        assert " (compiled) serves on " in log.read_text()
        lines = Path(f"/proc/{sidecar.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        assert status["Uid"].split() == ["65532"] * 4
        assert status["Groups"].split() == ["65532"]
        assert {int(status[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Bnd", "Inh", "Amb")} == {0}
        assert status["NoNewPrivs"] == "1"
        socket = Path(f"/proc/{sidecar.pid}/root/run/authz/authz.sock").stat()
        assert oct(socket.st_mode & 0o777) == "0o660"
        assert socket.st_gid == 65532  # the folder's, as fsGroup makes it

        # Envoy's user in a container of the same pod, with the pod's group and without it.
        asked = as_neighbour(sidecar.pid, group=65532, command=[*entry, "health"], environment=environment)
        assert asked.returncode == 1, asked.stderr  # it answers: not serving, for its issuer cannot be reached
        asked = as_neighbour(sidecar.pid, group=4242, command=[*entry, "health"], environment=environment)
        assert asked.returncode == 2, asked.stdout

        # What `kubectl exec ... -- authz keys` runs: found by the image's PATH, with its environment.
        listens = re.search(r"admin on (127[.]0[.]0[.]1:\d+)", log.read_text()) or pytest.fail(log.read_text())
        keys = ["authz", "keys", "--admin", f"http://{listens[1]}"]
        asked = as_neighbour(sidecar.pid, group=65532, command=keys, environment=final.environment)
        assert (asked.returncode, "corporate" in asked.stdout) == (0, True), asked.stderr

        for place in ("/app/x", "/etc/authz/x", "/x"):
            tried = ["/bin/sh", "-c", f"echo > {place}"]
            said = as_neighbour(sidecar.pid, user=0, group=0, command=tried, environment=environment).stderr
            assert "Read-only file system" in said
    finally:
        sidecar.terminate()
        sidecar.wait(HANG_SECONDS)
    assert sidecar.returncode == 0, log.read_text()


def as_neighbour(
    pid: int, *, group: int, command: list[str], environment: dict[str, str], user: int = 4242
) -> subprocess.CompletedProcess[str]:
    """Run a command with the mounts of a process, as another user."""
    enter = ["nsenter", "--target", str(pid), "--mount", "--root"]
    person = ["setpriv", "--reuid", str(user), "--regid", str(group), "--clear-groups", "--no-new-privs"]
    argv = [*enter, *person, *command]
    # Again where this machine was too busy to answer `authz health` within its second.
    while (
        "Deadline Exceeded"
        in (done := subprocess.run(argv, env=environment, check=False, capture_output=True, text=True)).stderr
    ):
        continue
    return done

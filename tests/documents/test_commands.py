"""Proves every command in the pages: each is run as it stands, or is listed with the reason why it is not.

Written differently here than on the page: /run/authz is the reader's folder, and needs no root; `authz serve` runs in
the background until the block has ended, and Envoy judges its configuration in place of serving by it.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click
import pytest

from authz.cli import main
from tests.documents.pages import PAGES, Block, blocks, relative, spans
from tests.documents.reader import bring_keys, folder_of, logical_lines, run
from tests.tools import ROOT

# What a line begins with: why it is not run here, and what proves it instead.
NOT_RUN: Final[Mapping[str, str]] = {
    "docker ": "needs a daemon and a registry; tests/chart/test_image.py runs the steps of the Dockerfile",
    "kind ": "needs a container runtime",
    "kubectl create ": "needs a cluster",
    "kubectl exec ": "needs a cluster",
    "kubectl expose ": "needs a cluster",
    "kubectl get ": "needs a cluster",
    "kubectl label ": "needs a cluster",
    "kubectl rollout ": "needs a cluster",
    "alias probe=": "needs a cluster",
    "probe ": "needs a cluster",
    "helm install ": "needs a cluster; tests/chart renders what it installs, and runs it",
    "helm test ": "needs a cluster",
    "make run": "is the demo, which tests/e2e/test_demo.py runs",
    "make test": "is what runs this",
}
# Blocks that begin so are run by test_rotation.py and test_first_route.py.
ROTATION: Final = "admin="
FIRST_ROUTE: Final = "make -C .. .venv/ready"
SHELL: Final = [block for block in blocks("sh") if not block.text.startswith((ROTATION, FIRST_ROUTE))]


def reason_not_to_run(line: str) -> str | None:
    """Why a line is not run, if it is not."""
    return next((why for start, why in NOT_RUN.items() if line.startswith(start)), None)


def write_script(block: Block, folder: Path) -> str:
    """Write what is run of a block."""
    lines = []
    for line in logical_lines(block):
        if reason_not_to_run(line) is not None:
            continue
        command = line.removeprefix("sudo ").replace("/run/authz", str(folder))
        command = command.replace("envoy --config-path", "envoy --mode validate --config-path")
        if command.startswith("authz serve"):
            lines += [f"{command.partition('#')[0].rstrip('& ')} &", "trap 'kill %1; wait' EXIT"]
            command = f"authz health unix:{folder}/authz.sock --wait 60"
        lines.append(command)
    return "\n".join(["set -m", *lines]) if lines else ""


@pytest.mark.needs("bash", "jq", "helm")
@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_commands_do_what_the_page_says(block: Block) -> None:
    """The commands of the block succeed, in their order, in the folder of someone who followed the page."""
    with folder_of(block.page) as folder:
        bring_keys(folder)
        script = write_script(block, folder)
        said = run(script, folder) if script else ""
    assert bool(said) or not script


@pytest.mark.parametrize("start", NOT_RUN)
def test_nothing_is_listed_in_vain(start: str) -> None:
    """Each line of the list is of a command that some page has."""
    assert any(line.startswith(start) for block in SHELL for line in logical_lines(block))


def test_files_of_commands_that_are_not_run_exist() -> None:
    """What a listed command reads is there, or is written by a block of its page."""
    for block in SHELL:
        with folder_of(block.page) as folder:
            for line in logical_lines(block):
                for file in re.findall(r"--(?:file|values) (\S+)", line):
                    assert (folder / file).exists(), f"{block.name}: {file}"


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.name)
def test_python_does_what_the_page_says(block: Block) -> None:
    """A block that names itself a test is run by pytest, beside the configuration of its page; any other by Python."""
    with folder_of(block.page) as folder:
        named = re.match(r"# (test_\w+\.py)\n", block.text)
        file = folder / (named[1] if named else "program.py")
        file.write_text(block.text, encoding="utf-8")
        pytest_ = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(folder))
        argv = [sys.executable, *(pytest_ if named else ()), str(file)]
        environment = {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(argv, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def within_sentences(start: str) -> Iterator[tuple[str, str]]:
    """Commands that stand within sentences, with their pages."""
    for page in PAGES:
        yield from ((relative(page), span) for span in spans(page) if span.startswith(start))


def test_commands_within_sentences_exist() -> None:
    """Each `authz …` names a command and options that there are."""
    found = 0
    for page, span in within_sentences("authz "):
        name, *arguments = shlex.split(span)[1:]
        if name.startswith("-"):
            continue
        command = main.get_command(click.Context(main), name)
        assert command is not None, f"{page}: {span}"
        try:
            command.make_parser(click.Context(command, help_option_names=["-h", "--help"])).parse_args(arguments)
        except click.MissingParameter:
            pass
        except click.UsageError as error:
            pytest.fail(f"{page}: {span}: {error}")
        found += 1
    assert found > 20


def test_readme_names_every_command() -> None:
    """The README says what each command is for."""
    named = {shlex.split(span)[1] for page, span in within_sentences("authz ") if page == "README.md"}
    assert named == set(main.list_commands(click.Context(main)))


def test_targets_within_sentences_exist() -> None:
    """Each `make …` names a target of the Makefile, and all of them are on some page."""
    targets = set(re.findall(r"^([a-z.-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page, span in within_sentences("make "):
        assert shlex.split(span)[1] in targets | {".tools/helm", ".tools/peers/heimdall"}, f"{page}: {span}"


def test_programs_within_sentences_exist() -> None:
    """Each `python …` names a module or a file of the project."""
    for page, span in within_sentences("python "):
        first, *others = shlex.split(span)[1:]
        known = importlib.util.find_spec(others[0]) if first == "-m" else (ROOT / first).exists()
        assert known, f"{page}: {span}"


def test_paths_within_sentences_exist() -> None:
    """Each path of the project that stands in a sentence is one, down to the test that is named."""
    for page in PAGES:
        for span in spans(page):
            path, _, test = span.partition("::")
            if re.fullmatch(r"(?:\.ci|authz|deploy|protos|tests)/[\w./*-]+", path) is None:
                continue
            assert list(ROOT.glob(path.rstrip("/"))), f"{relative(page)}: {span}"
            if test:
                assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{relative(page)}: {span}"

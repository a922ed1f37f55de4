"""Compile the modules that a check runs, by mypyc: `python deploy/compile.py FOLDER`, or AUTHZ_COMPILED=1 for a wheel.

Beside each of these modules is then an extension module, which Python imports in its place; the source stays there for
readers and tracebacks. `authz --version` says which of the two forms runs.

Rules of this file:
1. The source is the truth, and runs as it is. What is compiled differs in one respect: mypyc cannot compile the
   `__init__` that `dataclass` writes at run time, so it is written here, by the same rules. It stands on the empty line
   after the class's docstring, so that a traceback names the same line in both forms.
2. The source and the version of mypyc decide what is made, not what else is installed: types of other packages are not
   read.
3. All or nothing: if one module cannot be compiled, the build fails.
4. Compiled code raises TypeError for an argument of another type than is declared. What catches all exceptions of a
   check, authz/envoy/checker.py and the transports, is not compiled, so that it catches these too.
"""

# ruff: noqa: INP001 - a program, and no part of a package
from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT: Final = Path(__file__).resolve().parent.parent
CHOICE: Final = "AUTHZ_COMPILED"  # 1: the wheel is compiled; unset or 0: it is not
COMPILED: Final = (
    "authz/core/*.py",
    "authz/envoy/codec.py",
    "authz/facts/cache.py",
    "authz/feeds/signature_cache.py",
    "authz/feeds/token_cache.py",
    "authz/feeds/key_usage.py",
    "authz/telemetry/check_record.py",
)
# In the core, what only reads documents and configurations; `record` is replaced in what is compiled.
NOT_COMPILED: Final = frozenset(
    f"authz/core/{name}.py"
    for name in (
        "__init__",
        "certificate",
        "implementation",
        "issuer_document",
        "jwk_normalization",
        "jwk_set",
        "jwk_validation",
        "logout_token",
        "record",
        "revocation_entries",
        "security_event",
        "strictness",
    )
)
GROUP: Final = "authz.compiled"  # authz/compiled__mypyc.*.so holds the code of all
OPTIONS: Final = (
    "--config-file=",
    "--python-version=3.11",
    "--no-site-packages",
    "--ignore-missing-imports",
)
_DECORATORS: Final[dict[str, dict[str, str]]] = {  # and what authz.core.record adds to the options
    "dataclass": {},
    "record": {},
    "kw_record": {"kw_only": "True"},
    "hashed_record": {"unsafe_hash": "True"},
}


class CompileHook(BuildHookInterface[Any]):
    """Adds the extension modules to a wheel, if CHOICE asks for them."""

    _made: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what the wheel is for. Raises SystemExit."""
        choice = os.environ.get(CHOICE, "0")
        if choice not in {"0", "1"}:
            sys.exit(f"{CHOICE} is 1 for compiled modules, or 0: {choice!r} is neither")
        if choice == "0" or version == "editable":
            return
        made = self._made = tempfile.TemporaryDirectory(prefix="authz-compiled-")
        for path in compile_into(Path(made.name)):
            build_data["force_include"][f"{made.name}/{path}"] = path
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - the hook's
        """Remove what is in the wheel now."""
        if self._made is not None:
            self._made.cleanup()


def main() -> None:
    """Put a compiled copy of authz/ into the folder that is named."""
    (target,) = map(Path, sys.argv[1:])
    copy_source(target)
    compile_into(target)


def copy_source(target: Path) -> None:
    """Copy authz/ into *target*, without what was made of it."""
    shutil.copytree(ROOT / "authz", target / "authz", ignore=shutil.ignore_patterns("__pycache__", "*.so"))


def compile_into(target: Path) -> list[str]:
    """Put the extension modules below *target*, and return their paths there. Raises SystemExit."""
    with tempfile.TemporaryDirectory(prefix="authz-compile-") as name:
        folder = Path(name)
        copy_source(folder)
        paths = list(find_modules(folder))
        for path in paths:
            source = (folder / path).read_text(encoding="utf-8")
            (folder / path).write_text(expand(source, path), encoding="utf-8")
        done = subprocess.run([sys.executable, "-c", _PROGRAM, *paths], cwd=folder, check=False)  # noqa: S603 - our own
        if done.returncode != 0:
            sys.exit(
                f"mypyc failed: it needs mypy, setuptools and a C compiler; without {CHOICE}=1 nothing is compiled"
            )
        made = sorted(path.relative_to(folder / "made").as_posix() for path in (folder / "made").rglob("*.so"))
        for path in made:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / "made" / path, target / path)
    return made


# A process of its own: mypyc and setuptools work in the current folder. One file of C per module: together they would
# need gigabytes of memory.
_PROGRAM: Final = f"""
import os, sys
from concurrent.futures import ThreadPoolExecutor
import setuptools
from mypyc.build import mypycify
from setuptools._distutils.ccompiler import CCompiler

extensions = mypycify([*{OPTIONS}, *sys.argv[1:]], debug_level="0", group_name={GROUP!r}, multi_file=True)
for extension in extensions:
    extension.include_dirs.append("build/authz")  # where the headers of a group with a dot in its name are
build = setuptools.Distribution({{"name": "authz", "ext_modules": extensions}}).get_command_obj("build_ext")
build.build_lib, build.build_temp = "made", "objects"
build.ensure_finalized()
compile_one, threads = CCompiler.compile, ThreadPoolExecutor(len(os.sched_getaffinity(0)))
CCompiler.compile = lambda compiler, sources, **options: [
    made
    for each in threads.map(lambda source: compile_one(compiler, [source], **options), sources)
    for made in each
]
build.run()
"""


def find_modules(root: Path) -> Iterator[str]:
    """Yield the paths of the modules to compile, relative to *root*."""
    for pattern in COMPILED:
        for path in sorted(root.glob(pattern)):
            if (name := path.relative_to(root).as_posix()) not in NOT_COMPILED:
                yield name


def expand(source: str, path: str) -> str:
    """Write the `__init__` of each dataclass into *source*, without moving a line. Raises ValueError."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            name = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(name, ast.Name) and name.id in _DECORATORS:
                options = _options(decorator) | _DECORATORS[name.id]
                lines[decorator.lineno - 1] = _write_decorator(options)
                for field in _fields(node):
                    if ast.unparse(field.annotation) == "object":  # mypyc looks for the name in the module
                        at = field.annotation.end_col_offset or 0
                        line = lines[field.lineno - 1]
                        lines[field.lineno - 1] = f"{line[:at]} | None{line[at:]}"
                lines[_empty_line(node, lines, path)] = f"    {_write_init(node, kw_only='kw_only' in options)}"
    imports = [number for number, line in enumerate(lines) if line.startswith("from authz.core.record import ")]
    for number in imports:
        lines[number] = "from dataclasses import dataclass"
    return "\n".join(lines) + "\n"


def _options(decorator: ast.expr) -> dict[str, str]:
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    return {keyword.arg: ast.unparse(keyword.value) for keyword in keywords if keyword.arg}


def _write_decorator(options: dict[str, str]) -> str:
    """Write the decorator with its *options*. What is compiled has slots anyway."""
    kept = [f"{name}={value}" for name, value in options.items() if name not in {"frozen", "slots"}]
    # mypyc takes no assignment in an `__init__` if it sees that the class is frozen. To others it is.
    hidden = ['**{"frozen": True}'] if "frozen" in options else []
    return f"@dataclass({', '.join(['init=False', *kept, *hidden])})"


def _empty_line(node: ast.ClassDef, lines: list[str], path: str) -> int:
    """Return the index of the empty line after the docstring. Raises ValueError."""
    after = node.body[0].end_lineno or 0
    if ast.get_docstring(node) is None or lines[after].strip():
        raise ValueError(f"{path}:{node.lineno}: no empty line after the docstring of {node.name}")
    return after


def _write_init(node: ast.ClassDef, *, kw_only: bool) -> str:
    """Write the method in one line, as `dataclass` would: with the fields in order, and their defaults."""
    parameters, statements = ["self", *(["*"] if kw_only else [])], []
    for field in _fields(node):
        name, kind = ast.unparse(field.target), ast.unparse(field.annotation)
        given = _field(field.value)
        default, factory = given.get("default"), given.get("default_factory")
        if "init" in given:  # which is False then
            statements += [f"self.{name} = {default}"] if default else []
        elif factory:
            parameters.append(f"{name}: {kind} | None = None")
            statements.append(f"self.{name} = ({factory})() if {name} is None else {name}")
        else:
            parameters.append(f"{name}: {kind} = {default}" if default else f"{name}: {kind}")
            statements.append(f"self.{name} = {name}")
    if any(isinstance(each, ast.FunctionDef) and each.name == "__post_init__" for each in node.body):
        statements.append("self.__post_init__()")
    return f"def __init__({', '.join(parameters)}) -> None: {'; '.join(statements) or 'pass'}"


def _fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    return [each for each in node.body if isinstance(each, ast.AnnAssign)]


def _field(value: ast.expr | None) -> dict[str, str]:
    """Return what *value* says of a field, as source text: its default, or the arguments of `field`."""
    if value is None:
        return {}
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "field":
        return {keyword.arg: ast.unparse(keyword.value) for keyword in value.keywords if keyword.arg}
    return {"default": ast.unparse(value)}


if __name__ == "__main__":
    main()

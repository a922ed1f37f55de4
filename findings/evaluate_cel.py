"""Evaluates one CEL expression a line, by cel-expr-python (`cpp`) or cel-python (`py`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

CLAIMS = {"scope": "orders:read", "member": True, "level": 2}
Evaluate = Callable[[str], Any]


def by_cel_expr_python() -> Evaluate:
    """Google's C++ runtime. An error is a value of its own type there."""
    from cel_expr_python import cel  # noqa: PLC0415 - only one of the two is installed

    environment = cel.NewEnv(variables={"claims": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)})

    def evaluate(expression: str) -> Any:  # noqa: ANN401 - any CEL value
        value = environment.compile(expression).eval(data={"claims": CLAIMS})
        return "error" if value.type().name() == "ERROR" else value.value()

    return evaluate


def by_cel_python() -> Evaluate:
    """The runtime in Python."""
    import celpy  # noqa: PLC0415 - only one of the two is installed

    environment = celpy.Environment()

    def evaluate(expression: str) -> Any:  # noqa: ANN401 - any CEL value
        return environment.program(environment.compile(expression)).evaluate({"claims": celpy.json_to_cel(CLAIMS)})

    return evaluate


def main() -> None:
    """Print a line for each line of standard input; booleans and numbers as CEL writes them."""
    evaluate = {"cpp": by_cel_expr_python, "py": by_cel_python}[sys.argv[1]]()
    for line in sys.stdin:
        try:
            value = evaluate(line.strip())
        except Exception:  # noqa: BLE001 - each runtime has errors of its own
            value = "error"
        text = str(value)
        print(text.lower() if text in {"True", "False"} and not isinstance(value, str) else text)


main()

#!/usr/bin/env bash
# An evaluation of CEL can fail: a missing key, a division by zero.
# Expected: cel-expr-python raises an exception, or returns something that no result can be mistaken for.
# Seen: most errors are values whose value() is a text such as a result could be, and which bool() takes for true; only type()
# tells ERROR from STRING or BOOL. A key that a map literal has twice raises RuntimeError. A caller must look for both.
. "$(dirname "$0")/lib.sh"
pip_install python cel-expr-python==0.1.3
python/bin/python > seen.txt 2> /dev/null <<'PYTHON'
from cel_expr_python import cel

environment = cel.NewEnv(variables={"claims": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)})
for expression in ("claims.level == 2", "claims.absent == 2", "1 / (claims.level - 2) == 1", "{'a': 1, 'a': 2}.size() == 1"):
    try:
        value = environment.compile(expression).eval(data={"claims": {"level": 2}})
        print(f"{expression}: {value.type().name()} {value.value()!r}")
    except RuntimeError as error:
        print(f"{expression}: raised RuntimeError: {error}")
PYTHON
compare seen.txt <<'SEEN'
claims.level == 2: BOOL True
claims.absent == 2: ERROR 'NOT_FOUND: Key not found in map : "absent"'
1 / (claims.level - 2) == 1: ERROR 'INVALID_ARGUMENT: divide by zero'
{'a': 1, 'a': 2}.size() == 1: raised RuntimeError: ALREADY_EXISTS: duplicate key in map [ALREADY_EXISTS]
SEEN

#!/usr/bin/env bash
# cel-python is CEL in pure Python, and so easily taken to test a condition that another runtime will evaluate.
# Expected: what it says of `in`, of string() and of comparisons between numbers is what Google's runtimes say.
# Seen: `in` looks among the letters of a text: false, or true for one letter, where the others have an error; so its negation
# holds. string(true) is "True", string(1.0) is "1.0"; 2 == 2.0 of dynamic values and the three-argument map() are errors.
# Columns: expression | cel-expr-python | cel-go | cel-python.
. "$(dirname "$0")/lib.sh"
cel_runtimes
cel_table > seen.txt <<'CEL'
'orders' in claims.scope
!('admin' in claims.scope)
'o' in claims.scope
string(claims.member)
string(1.0)
string(1e6)
claims.level == 2.0
claims.scope == 2
[1, 2].map(x, x > 1, x * 2) == [4]
CEL
compare seen.txt <<'SEEN'
'orders' in claims.scope | error | error | false
!('admin' in claims.scope) | error | error | true
'o' in claims.scope | error | error | true
string(claims.member) | true | true | True
string(1.0) | 1 | 1 | 1.0
string(1e6) | 1e+06 | 1e+06 | 1000000.0
claims.level == 2.0 | true | true | error
claims.scope == 2 | false | false | error
[1, 2].map(x, x > 1, x * 2) == [4] | true | true | error
SEEN

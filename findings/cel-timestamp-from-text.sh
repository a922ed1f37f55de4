#!/usr/bin/env bash
# RFC 3339 allows second 60 where a leap second was, and "t" and "z" in lower case; it requires a time and an offset.
# Expected: timestamp() of each CEL runtime reads what RFC 3339 allows, and nothing else, or at least they agree.
# Seen: only C++ (cel-expr-python) reads second 60 and the lower-case letters; Go (cel-go) and cel-python refuse them.
# cel-python also reads a date alone, a time without offset and a blank for the T. It has no timestamp() of a number.
# Columns: expression | cel-expr-python | cel-go | cel-python.
. "$(dirname "$0")/lib.sh"
cel_runtimes
cel_table > seen.txt <<'CEL'
timestamp('2016-12-31T23:59:60Z') == timestamp('2017-01-01T00:00:00Z')
timestamp('2024-01-01t00:00:00z') == timestamp('2024-01-01T00:00:00Z')
timestamp('2024-01-01 00:00:00Z') == timestamp('2024-01-01T00:00:00Z')
timestamp('2024-01-01T00:00:00') == timestamp('2024-01-01T00:00:00Z')
timestamp('2024-01-01') == timestamp('2024-01-01T00:00:00Z')
timestamp(1704067200) == timestamp('2024-01-01T00:00:00Z')
CEL
compare seen.txt <<'SEEN'
timestamp('2016-12-31T23:59:60Z') == timestamp('2017-01-01T00:00:00Z') | true | error | error
timestamp('2024-01-01t00:00:00z') == timestamp('2024-01-01T00:00:00Z') | true | error | error
timestamp('2024-01-01 00:00:00Z') == timestamp('2024-01-01T00:00:00Z') | error | error | true
timestamp('2024-01-01T00:00:00') == timestamp('2024-01-01T00:00:00Z') | error | error | true
timestamp('2024-01-01') == timestamp('2024-01-01T00:00:00Z') | error | error | true
timestamp(1704067200) == timestamp('2024-01-01T00:00:00Z') | true | true | error
SEEN

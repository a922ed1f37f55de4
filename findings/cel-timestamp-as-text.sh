#!/usr/bin/env bash
# A CEL timestamp is an instant, and string() of it is RFC 3339 text.
# Expected: equal timestamps have one text, in UTC, in every runtime, with the fraction that they have.
# Seen: C++ (cel-expr-python) writes UTC with 3, 6 or 9 digits; Go (cel-go) keeps the offset that was written and as few digits
# as needed; cel-python keeps the offset and drops the fraction. So two timestamps that are equal can have two texts, and a
# text that one runtime wrote is not found by another. Durations differ in the same way.
# Columns: expression | cel-expr-python | cel-go | cel-python.
. "$(dirname "$0")/lib.sh"
cel_runtimes
cel_table > seen.txt <<'CEL'
timestamp('2024-01-01T00:00:00+02:00') == timestamp('2023-12-31T22:00:00Z')
string(timestamp('2024-01-01T00:00:00+02:00'))
string(timestamp('2023-12-31T22:00:00Z'))
string(timestamp('2024-01-01T00:00:00.5Z'))
string(duration('1h0m0.5s'))
CEL
compare seen.txt <<'SEEN'
timestamp('2024-01-01T00:00:00+02:00') == timestamp('2023-12-31T22:00:00Z') | true | true | true
string(timestamp('2024-01-01T00:00:00+02:00')) | 2023-12-31T22:00:00Z | 2024-01-01T00:00:00+02:00 | 2024-01-01T00:00:00+02:00
string(timestamp('2023-12-31T22:00:00Z')) | 2023-12-31T22:00:00Z | 2023-12-31T22:00:00Z | 2023-12-31T22:00:00Z
string(timestamp('2024-01-01T00:00:00.5Z')) | 2024-01-01T00:00:00.500Z | 2024-01-01T00:00:00.5Z | 2024-01-01T00:00:00Z
string(duration('1h0m0.5s')) | 3600.500s | 3600.5s | 3600s
SEEN

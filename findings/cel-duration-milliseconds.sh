#!/usr/bin/env bash
# CEL's getHours(), getMinutes() and getSeconds() of a duration count the whole of it: 5400 seconds for 1h30m.
# Expected: getMilliseconds() counts the whole of it too, and Google's two runtimes agree.
# Seen: in C++ (cel-expr-python) it is the part below one second, 500 for 1.5s and 0 for 2s; in Go (cel-go), and in
# cel-python, it is 1500 and 2000. "Less than 1000 milliseconds ago" is always true in C++.
# Columns: expression | cel-expr-python | cel-go | cel-python.
. "$(dirname "$0")/lib.sh"
cel_runtimes
cel_table > seen.txt <<'CEL'
duration('1h30m').getMinutes()
duration('1h30m').getSeconds()
duration('1.5s').getMilliseconds()
duration('2s').getMilliseconds()
timestamp('2024-01-01T00:00:01.500Z').getMilliseconds()
CEL
compare seen.txt <<'SEEN'
duration('1h30m').getMinutes() | 90 | 90 | 90
duration('1h30m').getSeconds() | 5400 | 5400 | 5400
duration('1.5s').getMilliseconds() | 500 | 1500 | 1500
duration('2s').getMilliseconds() | 0 | 2000 | 2000
timestamp('2024-01-01T00:00:01.500Z').getMilliseconds() | 500 | 500 | 500
SEEN

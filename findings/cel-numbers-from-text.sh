#!/usr/bin/env bash
# int(), double() and duration() of CEL read text; the grammar of a number is in the language definition.
# Expected: the runtimes agree which texts are numbers, for a claim that an issuer writes as text.
# Seen: no two agree. int(' 5') is 5 in C++ and Python, an error in Go; double('1_0.5') is 10.5 in Go and Python, an error in C++;
# int('1_000') and int('0x1F') are numbers in cel-python alone, and so is the duration '1d', a day.
# Columns: expression | cel-expr-python | cel-go | cel-python.
. "$(dirname "$0")/lib.sh"
cel_runtimes
cel_table > seen.txt <<'CEL'
int('5')
int(' 5')
int('1_000')
int('0x1F')
double('1_0.5')
duration('1d') == duration('24h')
CEL
compare seen.txt <<'SEEN'
int('5') | 5 | 5 | 5
int(' 5') | 5 | error | 5
int('1_000') | error | error | 1000
int('0x1F') | error | error | 31
double('1_0.5') | error | 10.5 | 10.5
duration('1d') == duration('24h') | error | error | true
SEEN

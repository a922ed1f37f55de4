module dpop

go 1.26.0

require github.com/bluesky-social/indigo v0.0.0-20260605210604-af2fec94f34c

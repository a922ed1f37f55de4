"""Everything that proves this repository."""

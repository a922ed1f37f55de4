"""Leaves the tests of this folder to `make peers`, which says that it is the one to run them."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("PEERS") else ["test_*.py"]

"""Web frameworks with the same routes: how they are started, what they are asked, and what a request got around."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.frameworks.proof", "tests.frameworks.front")

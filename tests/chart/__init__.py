"""The charts, the image and the snippets of deploy/, proved by the tools that users will have."""

from __future__ import annotations

"""Stand-ins that behave, or misbehave, as a test configures them: real sockets, real keys, no mocks."""

from __future__ import annotations

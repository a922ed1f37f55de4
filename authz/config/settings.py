"""The metadata of all keys of the configuration file, by their paths."""

from __future__ import annotations

from typing import Final

from authz.config.model import Config
from authz.config.section import settings_of

SETTINGS: Final = dict(settings_of(Config))
"""The metadata of each key of the file, by its path."""
RESTART_REQUIRED: Final = tuple(path for path, setting in SETTINGS.items() if setting.restart)
"""The settings whose changes take effect at the next start; all others are reloaded."""

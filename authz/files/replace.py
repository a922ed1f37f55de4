"""Replace a file atomically: a reader finds the old content or all of the new one, also after a crash."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from authz.files.stamp import FileStamp


def replace_file(path: Path, parts: Iterable[bytes]) -> FileStamp:
    """Write *parts* to a file beside *path* that only its owner can read, and rename it. Raises OSError.

    Return the stamp of what was written. A stamp that is taken after the rename could be that of a file that another
    process has written since.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.writelines(parts)
            file.flush()
            os.fsync(descriptor)
        stamp = FileStamp.of(temporary)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    return stamp

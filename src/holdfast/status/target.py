"""Where the site goes. A folder is changed all at once: a reader sees the old version whole, or the new one.

FOLDER/current          -> versions/000042    what a web server should serve
FOLDER/versions/000042  files; those that did not change are links to the version before
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

VERSIONS_KEPT: Final = 3
"""Versions that stay, for readers in the middle of one."""


_KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
    "atom": "application/atom+xml",
    "rss": "application/rss+xml",
    "ics": "text/calendar; charset=utf-8",
    "svg": "image/svg+xml",
}


def content_type(path: str) -> str:
    """Return the media type of a file of the site."""
    return _KINDS.get(path.rpartition(".")[2], "application/octet-stream")


class Target(Protocol):
    """A place where the site is published."""

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Make the site consist of exactly these files, by path. Raises: `OSError`."""
        ...

    def tidy(self) -> None:
        """Let go of what is no longer read. Raises: `OSError`."""
        ...


class Folder:
    """A folder of this machine, or one that is mounted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, bytes] = {}

    @property
    def current(self) -> Path:
        """The folder to serve."""
        return self._path / "current"

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Make the folder consist of exactly these files. Raises: `OSError`."""
        versions = self._path / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        before = self.current.resolve() if self._last and self.current.exists() else None
        number = max((int(p.name) for p in versions.iterdir() if p.name.isdecimal()), default=0) + 1
        version = versions / f"{number:06d}"
        made: set[Path] = set()
        for name, content in files.items():
            path = version / name
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            if before is not None and self._last.get(name) is content:
                os.link(before / name, path)
            else:
                path.write_bytes(content)
        link = self._path / f".current-{number}"
        link.symlink_to(Path("versions") / version.name)
        link.replace(self.current)
        self._last = dict(files)

    def tidy(self) -> None:
        """Delete versions that nobody can be in the middle of."""
        for old in sorted((self._path / "versions").iterdir())[:-VERSIONS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

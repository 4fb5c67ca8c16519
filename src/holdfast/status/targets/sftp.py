"""A folder of a server over SFTP, changed all at once as `Folder` does it.

FOLDER/current          -> versions/000042    what a web server should serve
FOLDER/versions/000042  files; those that did not change are links, where the server knows links

Nothing of a version is seen before `current` names it. One that a failure left unfinished is deleted by the
next publish, which then brings every file. The server shows the host key that the settings name, or nothing
is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

import asyncssh

from holdfast.status.target import VERSIONS_KEPT
from holdfast.status.targets.errors import TargetInvalid, unavailable
from holdfast.status.targets.settings import SftpSettings

CONNECT_S: Final = 10
LOGIN_S: Final = 20
AT_ONCE_MAX: Final = 16
"""Files that are on their way at the same time."""
_DIGITS: Final = 6


class Sftp:
    """A folder of one server. One writer at a time."""

    def __init__(self, settings: SftpSettings, *, password: str = "", passphrase: str = "") -> None:
        """Raises: `TargetInvalid`."""
        self._settings = settings
        self._secrets = (password, passphrase)
        self._place = f"sftp {settings.user}@{settings.host}:{settings.folder}"
        self._folder = PurePosixPath(settings.folder)
        self._password = password or None
        self._keys = [_private(settings.key_file, passphrase)] if settings.key_file else None
        try:
            self._host_key = asyncssh.import_public_key(settings.host_key)
        except (asyncssh.KeyImportError, ValueError):
            raise TargetInvalid(
                "target sftp: `host_key` is not a public key like ssh-ed25519 AAAA…; ssh-keyscan prints it."
            ) from None
        self._last: dict[str, bytes] = {}
        """What `_version` holds for certain."""
        self._version = ""
        self._links = True

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Make the folder consist of exactly these files. Raises: `TargetInvalid`, `TargetUnavailable`."""
        last, self._last = self._last, {}
        try:
            asyncio.run(self._bring(files, last))
        except asyncssh.HostKeyNotVerifiable:
            raise TargetInvalid(
                f"{self._place}: the server shows another key than `host_key`. Nothing was sent."
            ) from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise unavailable(self._place, error, *self._secrets) from None

    def tidy(self) -> None:
        """Do nothing: `publish` lets go of old versions while it is connected."""

    async def _bring(self, files: Mapping[str, bytes], last: Mapping[str, bytes]) -> None:
        settings = self._settings
        async with (
            asyncio.timeout(settings.timeout_s),
            asyncssh.connect(
                settings.host,
                settings.port,
                username=settings.user,
                password=self._password,
                client_keys=self._keys,
                known_hosts=([self._host_key], [], []),
                agent_path=None,
                config=None,
                gss_host=None,
                connect_timeout=CONNECT_S,
                login_timeout=LOGIN_S,
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            versions, before = await self._begin(sftp)
            number = max(versions, default=0) + 1
            version = f"{number:0{_DIGITS}d}"
            there = before if before == self._version else ""
            await self._fill(sftp, version, there, files, last if there else {})
            await self._switch(sftp, version)
            self._last, self._version = dict(files), version
            for old in sorted([*versions, number])[:-VERSIONS_KEPT]:
                await sftp.rmtree(self._path(f"{old:0{_DIGITS}d}"))

    async def _begin(self, sftp: asyncssh.SFTPClient) -> tuple[list[int], str]:
        """Return the numbers of the versions, and the name of the current one; unfinished ones go."""
        await sftp.makedirs(str(self._folder / "versions"), exist_ok=True)
        listed = await sftp.listdir(str(self._folder / "versions"))
        numbers = sorted(int(name) for name in listed if name.isdecimal() and len(name) >= _DIGITS)
        current = ""
        if await sftp.islink(str(self._folder / "current")):
            current = PurePosixPath(await sftp.readlink(str(self._folder / "current"))).name
        newest = int(current) if current.isdecimal() else 0
        for number in [one for one in numbers if one > newest]:
            await sftp.rmtree(self._path(f"{number:0{_DIGITS}d}"))
        return [one for one in numbers if one <= newest], current

    async def _fill(
        self,
        sftp: asyncssh.SFTPClient,
        version: str,
        before: str,
        files: Mapping[str, bytes],
        last: Mapping[str, bytes],
    ) -> None:
        for folder in sorted({str(PurePosixPath(name).parent) for name in files} | {"."}):
            await sftp.makedirs(self._path(version, folder), exist_ok=True)
        at_once = asyncio.Semaphore(AT_ONCE_MAX)

        async def put(name: str, content: bytes) -> None:
            async with at_once:
                path = self._path(version, name)
                if last.get(name) == content and await self._link(sftp, self._path(before, name), path):
                    return
                async with sftp.open(path, "wb") as file:
                    await file.write(content)

        jobs = [asyncio.create_task(put(name, content)) for name, content in files.items()]
        try:
            await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _link(self, sftp: asyncssh.SFTPClient, before: str, path: str) -> bool:
        """Make `path` a link to the same file of the version before; False if the server does not."""
        if not self._links:
            return False
        try:
            await sftp.link(before, path)
        except asyncssh.SFTPOpUnsupported:
            self._links = False
            return False
        except asyncssh.SFTPError:
            return False
        return True

    async def _switch(self, sftp: asyncssh.SFTPClient, version: str) -> None:
        fresh = str(self._folder / ".current-next")
        if await sftp.islink(fresh):
            await sftp.remove(fresh)
        await sftp.symlink(str(PurePosixPath("versions") / version), fresh)
        await sftp.posix_rename(fresh, str(self._folder / "current"))

    def _path(self, version: str, name: str = ".") -> str:
        return str(self._folder / "versions" / version / name)


def _private(path: str, passphrase: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(path, passphrase or None)
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise TargetInvalid(f"target sftp: `key_file` {path}: {type(error).__name__}.") from None

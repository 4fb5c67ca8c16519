"""A store of objects that speaks S3.

A store changes one object at a time. Pages carry their own signatures, so each is whole by itself; the
manifest goes last, so that it never names a file that is not there yet; what is gone is deleted after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from holdfast.status.seal import MANIFEST
from holdfast.status.target import content_type
from holdfast.status.targets.errors import TargetInvalid, unavailable
from holdfast.status.targets.settings import S3Settings

if TYPE_CHECKING:
    from obstore.store import S3Credential

CACHE_CONTROL: Final = "public, max-age=5"
"""What caches may do: as the service's own pages say."""
CONNECT_S: Final = 5
REQUEST_S: Final = 20
RETRIES_MAX: Final = 2
AT_ONCE_MAX: Final = 8
"""Objects that are on their way at the same time."""
OBJECTS_MAX: Final = 100_000
"""More below the prefix than any site has: it is not a place for one."""


class S3:
    """A bucket, or the part of one below a prefix, that holds the site and nothing else."""

    def __init__(self, settings: S3Settings, key: str, secret: str) -> None:
        """Raises: `TargetInvalid`."""
        self._settings = settings
        self._secrets = (key, secret)
        self._place = f"s3 {settings.bucket}/{settings.prefix.strip('/')}".rstrip("/")
        self._store = _store(settings, key, secret)
        self._last: dict[str, bytes] | None = None
        """What the store holds for certain. None: it has to be asked."""
        self._ours = False

    def publish(self, files: Mapping[str, bytes]) -> None:
        """Make the prefix consist of exactly these files. Raises: `TargetInvalid`, `TargetUnavailable`."""
        last, self._last = self._last, None
        try:
            asyncio.run(self._bring(files, last))
        except (BaseError, OSError, ValueError, TimeoutError, ExceptionGroup) as error:
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            raise unavailable(self._place, error, *self._secrets) from None
        self._last = dict(files)

    def tidy(self) -> None:
        """Do nothing: a store keeps no versions that we made."""

    async def _bring(self, files: Mapping[str, bytes], last: Mapping[str, bytes] | None) -> None:
        async with asyncio.timeout(self._settings.timeout_s):
            there = await self._listed() if last is None else set(last)
            if not self._ours:
                self._recognise(there, files)
            known = last or {}
            changed = [name for name, content in files.items() if known.get(name) != content]
            at_once = asyncio.Semaphore(AT_ONCE_MAX)
            async with asyncio.TaskGroup() as group:
                for name in changed:
                    if name != MANIFEST:
                        group.create_task(self._put(name, files[name], at_once))
            if MANIFEST in changed:
                await self._put(MANIFEST, files[MANIFEST], at_once)
            gone = sorted(there - files.keys())
            if gone:
                await obstore.delete_async(self._store, gone)

    async def _put(self, name: str, content: bytes, at_once: asyncio.Semaphore) -> None:
        said = {"Content-Type": content_type(name), "Cache-Control": CACHE_CONTROL}
        async with at_once:
            await obstore.put_async(self._store, name, content, attributes=said, use_multipart=False)

    async def _listed(self) -> set[str]:
        there: set[str] = set()
        async for some in obstore.list(self._store, chunk_size=1_000):
            there |= {one["path"] for one in some}
            if len(there) > OBJECTS_MAX:
                raise TargetInvalid(f"{self._place}: it holds more than a site; give one that is empty.")
        return there

    def _recognise(self, there: set[str], files: Mapping[str, bytes]) -> None:
        """Refuse a place with things of someone else: publishing would delete them."""
        odd = there - files.keys()
        if odd and MANIFEST not in there:
            raise TargetInvalid(
                f"{self._place}: it holds {min(odd)!r} and no status page; set `prefix`, or empty it."
            )
        self._ours = True


def _store(settings: S3Settings, key: str, secret: str) -> S3Store:
    """Return the store, which gives up in good time and takes credentials from nowhere else."""
    split = urlsplit(settings.endpoint)
    if settings.endpoint and (split.scheme not in ("http", "https") or not split.hostname or split.username):
        raise TargetInvalid("target s3: `endpoint` is not an address like https://host.")
    if split.scheme == "http" and not settings.allow_http:
        raise TargetInvalid("target s3: `endpoint` is not https; say `allow_http = true` if that is meant.")

    def credential() -> S3Credential:
        return {"access_key_id": key, "secret_access_key": secret, "token": None, "expires_at": None}

    more = {"endpoint": settings.endpoint, "aws_endpoint_url_s3": settings.endpoint}
    try:
        return S3Store(
            settings.bucket,
            prefix=settings.prefix.strip("/") or None,
            region=settings.region,
            virtual_hosted_style_request=settings.virtual_host,
            disable_bulk_delete=True,
            credential_provider=credential,
            client_options={
                "allow_http": settings.allow_http,
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "timeout": timedelta(seconds=REQUEST_S),
            },
            retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=REQUEST_S)},
            config=more if settings.endpoint else None,  # type: ignore[arg-type]
        )
    except (BaseError, ValueError) as error:
        raise TargetInvalid(f"target s3: {' '.join(str(error).split())[:200]}") from None

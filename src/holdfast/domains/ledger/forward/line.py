"""The connection to the ledger's writer: what both ends share, the caller's end, and the addresses."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar, cast

from holdfast.base.errors import Broken, HoldfastError, OutcomeUnknown, Unavailable, ensure
from holdfast.base.limits import (
    FORWARD_BYTES_MAX,
    FORWARD_CALLS_MAX,
    FORWARD_RETURN_S,
    FORWARD_SILENCE_MS_MAX,
)
from holdfast.domains.ledger.errors import BatchTooLarge, CommitUnknown, LaneFull, WriterAway
from holdfast.domains.ledger.forward import wire
from holdfast.domains.ledger.forward.greeting import CHALLENGE_BYTES, PROOF_BYTES, CallersGreeting, Stranger
from holdfast.domains.ledger.forward.wire import Agreed, Frames, FrameTooLong, Kind
from holdfast.platform import metrics
from holdfast.platform.unit import statements_known

T = TypeVar("T")
_NO_ANSWER: Final = (
    "The ledger's writer was told and did not answer. Ask for the state by id; do not send again."
)
_PATH_BYTES_MAX: Final = 107
"""What the address of a Unix socket holds (unix(7))."""


class End(asyncio.Protocol):
    """One end of a connection: takes frames in once it is proven, and sends those of a turn at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._frames: Frames | None = None
        self._before = b""
        self._out: dict[int, bytes] = {}
        self._out_bytes = 0
        self._held = False
        self.ended = asyncio.Event()

    @abstractmethod
    def greet(self, data: bytes) -> bytes:
        """Take what arrives before the other end is proven; return what of it comes after the proof."""

    @abstractmethod
    def give_up(self, reason: str) -> None:
        """End the connection at once: what the other end sends cannot be relied on."""

    @abstractmethod
    def take(self, number: int, kind: int, left_ms: int, body: bytes) -> None:
        """Take one frame. Raises: `Stranger` when nothing that comes after it can be relied on."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _: Exception | None) -> None:
        """End."""
        self._transport = None
        self._out.clear()
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        """Take what arrives."""
        try:
            if self._frames is None:
                data = self.greet(data)
            if self._frames is not None:
                for number, kind, left_ms, body in self._frames.feed(data):
                    self.take(number, kind, left_ms, body)
        except FrameTooLong:
            self.give_up("a frame that is too long")
        except Stranger as stranger:
            self.give_up(str(stranger))

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def put(self, number: int, frame: bytes) -> None:
        """Send a frame, together with the others of this turn of the loop."""
        if not self._out and not self._held:
            self._loop.call_soon(self._flush)
        self._out[number] = frame
        self._out_bytes += len(frame)

    def take_back(self, number: int) -> bool:
        """Drop a frame that was put and not sent yet; False when it is on its way."""
        frame = self._out.pop(number, None)
        if frame is None:
            return False
        self._out_bytes -= len(frame)
        return True

    def _flush(self) -> None:
        if self._out and not self._held and self._transport is not None:
            data = b"".join(self._out.values())
            self._out.clear()
            self._out_bytes = 0
            self._transport.write(data)

    def pause_writing(self) -> None:
        """Hold frames back: the other end reads too slowly."""
        self._held = True

    def resume_writing(self) -> None:
        """Send what was held back."""
        self._held = False
        self._flush()

    async def end(self, *, within_s: float) -> None:
        """Send what waits, and close the connection."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), within_s)
        self.abort()


class Line(End):
    """A caller's end of its connection."""

    def __init__(self, token: bytes) -> None:
        super().__init__()
        self._greeting = CallersGreeting(token)
        self._challenged = False
        self._waiting: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._last = 0
        self._leaving = False
        self.agreed: asyncio.Future[Agreed] = self._loop.create_future()
        self.agreed.add_done_callback(_seen)

    @property
    def lost(self) -> bool:
        """Whether it is over with this connection."""
        return self._leaving or self._transport is None or self._transport.is_closing()

    def greet(self, data: bytes) -> bytes:
        """Prove that we know the token, and have the writer prove it. Raises: `Stranger`."""
        self._before += data
        if not self._challenged and len(self._before) >= CHALLENGE_BYTES and self._transport is not None:
            try:
                self._transport.write(self._greeting.reply(self._before[:CHALLENGE_BYTES]))
            except WriterAway as error:
                self._fail(error)
                return b""
            self._challenged = True
            self._before = self._before[CHALLENGE_BYTES:]
        if self._challenged and len(self._before) >= PROOF_BYTES:
            self._greeting.check(self._before[:PROOF_BYTES])
            self._frames = Frames()
            rest, self._before = self._before[PROOF_BYTES:], b""
            return rest
        return b""

    def take(self, number: int, kind: int, left_ms: int, body: bytes) -> None:  # noqa: ARG002 - as its base
        """Take an answer; first, what the writer knows. One that nobody waits for any more is dropped."""
        if kind == Kind.STATEMENTS and not self.agreed.done():
            try:
                self.agreed.set_result(wire.read_statements(body, statements_known()))
            except HoldfastError as error:
                self._fail(error)
            return
        if kind == Kind.GOODBYE:
            self._leaving = True
            self.put(0, wire.frame(0, Kind.GOODBYE, b""))
            return
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_result((kind, body))

    def _fail(self, error: HoldfastError) -> None:
        """Give the connection up before it is one."""
        if not self.agreed.done():
            self.agreed.set_exception(error)
        self.abort()

    def give_up(self, reason: str) -> None:
        """Leave a writer that is none."""
        self._fail(WriterAway(f"What answers for the ledger's writer is not relied on: {reason}."))

    def connection_lost(self, _: Exception | None) -> None:
        """Tell those who wait: what was sent may have happened."""
        for number in self._waiting:
            self._unanswered(number)
        super().connection_lost(_)
        self._fail(WriterAway("The ledger's writer did not let this process in."))

    def _unanswered(self, number: int) -> None:
        """Tell who waits for an answer that there will be none."""
        future = self._waiting[number]
        if not future.done():
            unsent = self.take_back(number)
            future.set_exception(WriterAway() if unsent else CommitUnknown(_NO_ANSWER))

    async def call(self, kind: Kind, body: bytes, left_s: float) -> bytes:
        """Send a call and return the body of its answer. The writer is told a little less time than `left_s`.

        Raises: `WriterAway`, `LaneFull`, `BatchTooLarge` (it was not sent), `CommitUnknown` (it was, and was
        not answered), and whatever the writer answers.
        """
        metrics.LEDGER_FORWARDED.add()
        try:
            return await self._call(kind, body, left_s)
        except (Unavailable, OutcomeUnknown) as error:
            metrics.LEDGER_FORWARDS_FAILED.labels(error.code).inc()
            raise

    async def _call(self, kind: Kind, body: bytes, left_s: float) -> bytes:
        if self.lost or left_s <= 0:
            raise WriterAway
        if len(self._waiting) >= FORWARD_CALLS_MAX or self._out_bytes >= FORWARD_BYTES_MAX:
            raise LaneFull
        number = self._last + 1
        try:
            told_s = max(left_s - FORWARD_RETURN_S, left_s / 2)
            frame = wire.frame(number, kind, body, told_s)
        except FrameTooLong:
            raise BatchTooLarge("That is more than can be sent to the ledger's writer at a time.") from None
        self._last = number
        future: asyncio.Future[tuple[int, bytes]] = self._loop.create_future()
        self._waiting[number] = future
        self.put(number, frame)
        timer = self._loop.call_later(left_s, self._unanswered, number)
        try:
            answered, answer = await future
        finally:
            timer.cancel()
            del self._waiting[number]
            self.take_back(number)
        if answered == Kind.DONE:
            return answer
        raise read_answer(wire.read_error, answer)

    async def finish(self, *, within_s: float) -> None:
        """Take no more calls, and wait for the answers to those under way."""
        self._leaving = True
        if self._waiting:
            await asyncio.wait(list(self._waiting.values()), timeout=within_s)


def _seen(future: asyncio.Future[Agreed]) -> None:
    """Take note of an error that nobody may be waiting for any more."""
    if not future.cancelled():
        future.exception()


def read_answer(read: Callable[[bytes], T], answer: bytes) -> T:
    """Read an answer. Raises: `CommitUnknown` when it cannot be read: the call was carried out."""
    try:
        return read(answer)
    except Broken as error:
        raise CommitUnknown("The ledger's writer gave an answer that cannot be read.") from error


def unix_path(address: str) -> Path | None:
    """Return the path in `unix:/path`, None for another kind of address. Raises: `Broken`."""
    kind, _, path = address.partition(":")
    if kind != "unix":
        return None
    ensure(path.startswith("/"), f"the socket in {address} has an absolute path")
    size = len(os.fsencode(path))
    ensure(
        size <= _PATH_BYTES_MAX,
        f"the path of a socket has at most {_PATH_BYTES_MAX} bytes: {path} has {size}",
    )
    return Path(path)


def tcp_address(address: str) -> tuple[str, int]:
    """Return host and port in `tcp:host:port`. Raises: `Broken`."""
    kind, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    usable = kind == "tcp" and host and port.isascii() and port.isdigit() and int(port) < 2**16
    ensure(usable, f"an address is unix:/path or tcp:host:port, which {address!r} is not")
    return host, int(port)


def listening_socket(path: Path) -> socket.socket:
    """Return a socket at `path` that we alone can reach; one that nobody listens on any more is replaced.

    Raises: `Broken` when the folder is open to others, or another process listens there; `OSError`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = path.parent.stat()
    ensure(
        folder.st_uid == os.geteuid() and not folder.st_mode & 0o077,
        f"the folder of the ledger's socket is ours and closed to others (mode 0700): {path.parent}",
    )
    if path.exists():
        ensure(
            stat.S_ISSOCK(path.stat().st_mode),
            f"what stands in the ledger's socket's place is a socket: {path}",
        )
        ensure(not _answers(path), f"one process listens at {path}")
        path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(0o600)
    except OSError:
        made.close()
        raise
    return made


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # so many want to be let in that there is no room for another
            return True
    return True


def remove_socket(path: Path, inode: int) -> None:
    """Remove our socket, unless another has taken its place."""
    with suppress(FileNotFoundError):
        if path.stat().st_ino == inode:
            path.unlink()


def watch(one: socket.socket) -> None:
    """Have the kernel find out within `FORWARD_SILENCE_MS_MAX` that the other machine is gone."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, max(1, FORWARD_SILENCE_MS_MAX // 2_000 - 1))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, FORWARD_SILENCE_MS_MAX)

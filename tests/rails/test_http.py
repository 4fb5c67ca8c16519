"""The outbound client says with certainty whether anything left. Every server here is a real socket."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from holdfast.platform import http
from holdfast.platform.http import AddressRefused, HttpClient, NoAnswer, NotSent, Reply, UrlInvalid

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def server(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls)
    port = running.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
    finally:
        running.close()


@asynccontextmanager
async def client(**options: object) -> AsyncIterator[HttpClient]:
    made = HttpClient(allow_private=True, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


async def end_of(url: str, *, timeout_s: float = 5.0, method: str = "POST") -> Reply | NotSent | NoAnswer:
    async with client() as caller:
        try:
            return await caller.call(method, url, timeout_s=timeout_s, body=b"pay=1")
        except (NotSent, NoAnswer) as error:
            return error


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")
    )
    return head + await reader.readexactly(length)


async def forever(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# nothing left


async def test_a_refused_connection_is_not_sent() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    end = await end_of(f"http://127.0.0.1:{port}/")
    assert isinstance(end, NotSent)
    assert end.reason == "refused"


async def test_a_name_that_resolves_to_nothing_is_not_sent() -> None:
    end = await end_of("http://no-such-host.invalid/")
    assert isinstance(end, NotSent)
    assert end.reason == "name_not_resolved"


async def test_a_connect_timeout_is_not_sent() -> None:
    """A listener whose queue is full neither accepts nor refuses: the kernel drops what comes."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener:
        address = listener.getsockname()
        fillers = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(address)
            fillers.append(one)
        end = await end_of(f"http://127.0.0.1:{address[1]}/", timeout_s=0.4)
        for one in fillers:
            one.close()
    assert isinstance(end, NotSent)
    assert end.reason == "connect_timeout"


async def test_a_hang_in_the_tls_handshake_is_not_sent() -> None:
    async with server(forever) as url:
        end = await end_of(url.replace("http:", "https:"), timeout_s=0.4)
    assert isinstance(end, NotSent)


async def test_plain_text_where_tls_was_expected_is_not_sent() -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with server(talk) as url:
        end = await end_of(url.replace("http:", "https:"))
    assert isinstance(end, NotSent)
    assert end.reason == "tls"


async def test_a_connection_closed_during_the_tls_handshake_is_not_sent() -> None:
    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(64)

    async with server(talk) as url:
        end = await end_of(url.replace("http:", "https:"))
    assert isinstance(end, NotSent)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_not_sent(certificate: Path) -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1))

    async with server(talk, server_tls(certificate)) as url:
        end = await end_of(url)
    assert isinstance(end, NotSent)
    assert end.reason == "tls"
    assert b"".join(seen) == b"", "no byte of the request reached the other side"


async def test_tls_that_ends_well_carries_the_request(certificate: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()

    trusted = ssl.create_default_context(cafile=str(certificate))
    async with server(talk, server_tls(certificate)) as url, client(tls=trusted) as caller:
        reply = await caller.call("POST", url, timeout_s=5, body=b"pay=1")
    assert (reply.status, reply.body) == (200, b"ok")


async def test_a_deadline_that_has_passed_is_not_sent() -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1))

    async with server(talk) as url:
        end = await end_of(url, timeout_s=0.0)
    assert isinstance(end, NotSent)
    assert seen == []


async def test_waiting_in_vain_for_a_free_connection_is_not_sent() -> None:
    async with server(forever) as url, client(connections_max=1) as caller:
        first = asyncio.create_task(caller.call("POST", url, timeout_s=5, body=b"a"))
        await asyncio.sleep(0.1)
        with pytest.raises(NotSent) as caught:
            await caller.call("POST", url, timeout_s=0.2, body=b"b")
        assert caught.value.reason == "connect_timeout"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


# something may have left


async def test_a_connection_closed_before_anything_was_read_is_unknown() -> None:
    """The other side did not read, but nobody here can know: the bytes had left."""

    async def talk(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        return

    async with server(talk) as url:
        assert isinstance(await end_of(url), NoAnswer)


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_connection_that_ends_after_the_request_was_read_is_unknown(how: str) -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        if how == "reset":
            reset(writer)

    async with server(talk) as url:
        end = await end_of(url)
    assert isinstance(end, NoAnswer)
    assert end.reason == how
    assert seen
    assert seen[0].endswith(b"pay=1"), "the whole request had arrived, so it may have been carried out"


async def test_silence_after_the_request_is_unknown() -> None:
    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.Event().wait()

    async with server(talk) as url:
        end = await end_of(url, timeout_s=0.3)
    assert isinstance(end, NoAnswer)
    assert end.reason == "timeout"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", 200),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nha", 200),
        (b"HTTP/1.1 200", None),
        (b"220 mail.example ESMTP\r\n\r\n", None),
        (b"\x00\x01\x02\x03\r\n\r\n", None),
    ],
    ids=["half a body", "half a chunk", "half a head", "another protocol", "noise"],
)
async def test_an_answer_that_is_not_whole_is_unknown(said: bytes, status: int | None) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said)
        await writer.drain()

    async with server(talk) as url:
        end = await end_of(url)
    assert isinstance(end, NoAnswer)
    assert end.status == status


async def test_a_body_that_never_ends_is_unknown_within_the_deadline() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    began = time.monotonic()
    async with server(talk) as url:
        end = await end_of(url, timeout_s=0.4)
    assert isinstance(end, NoAnswer)
    assert end.reason == "timeout"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("framing", [b"content-length: 5000000", b"transfer-encoding: chunked"])
async def test_an_answer_that_is_too_large_is_not_read(framing: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n" if b"chunked" in framing else b"x" * 0x10000
        for _ in range(80):
            writer.write(piece)
            await writer.drain()

    async with server(talk) as url:
        end = await end_of(url)
    assert isinstance(end, NoAnswer)
    assert (end.reason, end.status) == ("too_large", 200)


# kept connections


async def test_a_kept_connection_that_the_other_side_closed_meanwhile_is_not_used() -> None:
    """The closing lies unread in the kernel, because this loop was busy: it must be seen first."""
    served = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await read_request(reader)
        served += 1
        writer.write(OK)
        await writer.drain()

    async with _elsewhere(talk) as url, client() as caller:
        for _ in range(20):
            assert (await caller.call("POST", url, timeout_s=5, body=b"pay=1")).status == 200
            time.sleep(0.02)  # the loop is blocked on purpose while the closing arrives
    assert served == 20


async def test_a_request_that_dies_on_a_kept_connection_is_unknown_and_not_sent_twice() -> None:
    requests: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(OK)
        await writer.drain()
        requests.append(await read_request(reader))

    async with server(talk) as url, client() as caller:
        assert (await caller.call("POST", url, timeout_s=5, body=b"first")).status == 200
        with pytest.raises(NoAnswer):
            await caller.call("POST", url, timeout_s=5, body=b"second")
    assert [request.rpartition(b"\r\n\r\n")[2] for request in requests] == [b"first", b"second"]


@asynccontextmanager
async def _elsewhere(talk: Talk) -> AsyncIterator[str]:
    """Run a server on a loop of its own in a thread, so that blocking this loop does not block the server."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await talk(reader, writer)
            writer.close()

        return await asyncio.start_server(one, "127.0.0.1", 0)

    running = asyncio.run_coroutine_threadsafe(start(), loop).result(5)
    try:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}/"
    finally:
        loop.call_soon_threadsafe(running.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


# where it may go


async def test_redirects_are_not_followed() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with server(talk) as url:
        end = await end_of(url)
    assert isinstance(end, Reply)
    assert end.status == 307


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0",
        "2130706433", "0x7f000001", "127.1", "0177.0.0.1",
    ],
)  # fmt: skip
async def test_this_machine_is_not_called_unless_allowed(host: str) -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1))

    async with server(talk) as url:
        port = url.rsplit(":", 1)[1]
        caller = HttpClient()
        try:
            with pytest.raises(NotSent):
                await caller.call("POST", f"http://{host}:{port}", timeout_s=3, body=b"x")
        finally:
            await caller.close()
    assert seen == []


async def test_a_refused_address_is_named_as_such() -> None:
    caller = HttpClient()
    try:
        with pytest.raises(AddressRefused):
            await caller.call("POST", "http://169.254.169.254/latest/meta-data/", timeout_s=3)
        with pytest.raises(AddressRefused):
            await caller.call("POST", "http://localhost:9/", timeout_s=3)
    finally:
        await caller.close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.0.2.1", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.215.14", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:a00:1::", False),
        ("2001:0:0:0:0:0:f5ff:fffe", False),
        ("::127.0.0.1", False),
    ],
)
def test_only_globally_routable_addresses_are_public(address: str, public: bool) -> None:
    assert http.is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "file:///etc/passwd", "//example.com", "http://", "http://user@example.com/", "x"],
)
async def test_only_plain_http_addresses_are_called(url: str) -> None:
    async with client() as caller:
        with pytest.raises(UrlInvalid):
            await caller.call("GET", url, timeout_s=1)


async def test_two_answers_set_no_cookie_between_them() -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with server(talk) as url, client() as caller:
        await caller.call("POST", url, timeout_s=5, body=b"1")
        await caller.call("POST", url, timeout_s=5, body=b"2")
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()

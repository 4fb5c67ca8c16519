"""A real SMTP server and a real HTTP server that keep what they get, and can fail."""

from __future__ import annotations

import email
import email.policy
import json
import re
import threading
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.running import free_port


class Letters:
    """An SMTP server. Addresses in `gone` are refused for good, those in `full` for now."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[EmailMessage] = []
        self.gone: set[str] = set()
        self.full: set[str] = set()
        self.port = port or free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=10)
        self._controller.start()

    async def handle_RCPT(  # noqa: N802 - named by the library
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.gone:
            return "550 no such user"
        if address in self.full:
            return "452 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        self.got.append(email.message_from_bytes(content, policy=email.policy.default))
        return "250 OK"

    def to(self, address: str) -> list[EmailMessage]:
        return [one for one in self.got if one["To"] == address]

    def stop(self) -> None:
        if self._controller.server is not None:
            self._controller.stop()


def text_of(message: EmailMessage) -> str:
    return str(message.get_content())


def link_in(text: str) -> str:
    found = re.search(r"https?://\S+/subscriptions/\S+", text)
    assert found is not None, text
    return found.group()


class Hooked:
    """A receiver of webhooks. `status` is what it answers."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes, Any]] = []
        self.status = 204
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(({k.lower(): v for k, v in self.headers.items()}, body, json.loads(body)))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

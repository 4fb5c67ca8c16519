"""The ways by which notices go out: e-mail, signed webhooks, and all that the library Apprise knows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Annotated, Any, Final, Literal, Protocol
from urllib.parse import urlsplit

import aiosmtplib
import apprise
import msgspec
from standardwebhooks.webhooks import Webhook

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.base.secret import Secret
from holdfast.platform.http import HttpClient
from holdfast.platform.log import logger
from holdfast.status.notices.archive import Written
from holdfast.status.subscriptions.links import Links
from holdfast.status.subscriptions.store import Subscriber
from holdfast.status.subscriptions.wishes import Kind
from holdfast.status.words import Tag, Words

_log: Final = logger(__name__)
Outcome = Literal["sent", "later", "never"]
"""`later`: this subscriber cannot be reached now. `never`: the other side says that there is no such one."""
TIMEOUT_S: Final = 15.0


class ChannelDown(Exception):
    """Nothing can go out by this channel at present. What waits goes on waiting."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes to one subscriber: notices, oldest first; none: the message by which it is confirmed."""

    to: Subscriber
    notices: Sequence[Written]


class Channel(Protocol):
    """One way."""

    kind: Kind
    at_once: int
    """Parcels on their way at a time."""

    async def send(self, parcel: Parcel) -> Outcome:
        """Send a parcel. Raises: `ChannelDown`."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class MailSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server that takes our mail. The password stands in the environment."""

    host: str
    sender: str
    port: Annotated[int, msgspec.Meta(gt=0, lt=65_536)] = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password_variable: str = ""
    connections: Annotated[int, msgspec.Meta(ge=1, le=50)] = 4


_DIGEST: Final = Words("%d notices", "%d 条通知")
_END: Final = Words("To get no more of these: ", "退订：")
_CONFIRM: Final = Words("Confirm your subscription", "请确认订阅")
_CONFIRM_TEXT: Final = Words(
    "Somebody, probably you, asked to be told here when something breaks or is planned.\n"
    "To confirm it, open this within two days:\n%s\nIf it was not you, do nothing: you will hear no more.",
    "有人（应该是您本人）申请在此接收故障与维护通知。\n请在两天内打开以下链接确认：\n%s\n"
    "若非本人操作，请忽略：不会再收到消息。",
)


def texts(title: str, parcel: Parcel, links: Links) -> tuple[str, str]:
    """Return subject and text of a parcel."""
    tag, id_ = parcel.to.wishes.tag, parcel.to.id
    if not parcel.notices:
        return f"{title}: {_CONFIRM.say(tag)}", _CONFIRM_TEXT.say(tag) % links.to("confirm", id_) + "\n"
    notices = parcel.notices
    subject = notices[0].subjects[tag] if len(notices) == 1 else f"{title}: {_DIGEST.say(tag) % len(notices)}"
    body = "\n\n".join(signed(notice, tag) for notice in notices)
    return subject, f"{body}\n\n{_END.say(tag)}{links.to('end', id_)}\n"


def signed(notice: Written, tag: Tag) -> str:
    """Return the text of a notice with the line that proves it."""
    return f"{notice.texts[tag]}\nHFN1 {notice.signatures[tag]}"


class Mail:
    """E-mail by one SMTP server (RFC 5321), over a few connections that stay open."""

    kind: Kind = "email"

    def __init__(
        self, settings: MailSettings, password: Secret | None, title: str, links: Links, clock: Clock
    ) -> None:
        self._clock = clock
        self.at_once = settings.connections
        self._settings = settings
        self._password = password
        self._title = title
        self._links = links
        self._idle: list[aiosmtplib.SMTP] = []

    async def _connection(self) -> aiosmtplib.SMTP:
        while self._idle:
            one = self._idle.pop()
            if one.is_connected:
                return one
        settings = self._settings
        one = aiosmtplib.SMTP(
            hostname=settings.host, port=settings.port, timeout=TIMEOUT_S,
            use_tls=settings.tls == "tls", start_tls=settings.tls == "starttls",
            username=settings.user or None,
            password=self._password.reveal() if self._password else None,
        )  # fmt: skip
        try:
            await one.connect()
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise ChannelDown(f"{type(error).__name__}: {error}") from None
        return one

    async def send(self, parcel: Parcel) -> Outcome:
        """Send a letter. Raises: `ChannelDown`."""
        connection = await self._connection()
        try:
            await connection.send_message(self._message(parcel))
        except aiosmtplib.SMTPRecipientsRefused as error:
            self._idle.append(connection)
            return "never" if all(each.code >= 500 for each in error.recipients) else "later"
        except aiosmtplib.SMTPResponseException as error:
            if error.code == 421:
                connection.close()
                raise ChannelDown(f"{error.code} {error.message}") from None
            self._idle.append(connection)
            return "later"
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            connection.close()
            raise ChannelDown(f"{type(error).__name__}: {error}") from None
        self._idle.append(connection)
        return "sent"

    def _message(self, parcel: Parcel) -> EmailMessage:
        subject, text = texts(self._title, parcel, self._links)
        message = EmailMessage()
        message["From"] = self._settings.sender
        message["To"] = parcel.to.address
        message["Subject"] = subject
        message["Date"] = format_datetime(self._clock.now().astimezone(UTC))
        message["Auto-Submitted"] = "auto-generated"
        last = parcel.notices[-1].id if parcel.notices else "confirm"
        message["Message-ID"] = f"<{last}.{parcel.to.id}@{self._settings.sender.rpartition('@')[2]}>"
        if parcel.notices:
            message["List-Unsubscribe"] = f"<{self._links.to('end', parcel.to.id)}>"
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message.set_content(text, cte="8bit" if text.isascii() else "base64")
        return message

    async def close(self) -> None:
        """Say goodbye to the server."""
        for one in self._idle:
            one.close()
        self._idle = []


class Hooks:
    """Webhooks in Statuspage's envelope, signed per Standard Webhooks."""

    kind: Kind = "webhook"
    at_once = 50

    def __init__(self, url: str, links: Links, clock: Clock, *, allow_private: bool = False) -> None:
        self._clock = clock
        self._client: HttpClient | None = None
        self._url = url
        self._links = links
        self._allow_private = allow_private

    async def send(self, parcel: Parcel) -> Outcome:
        """Send each notice in a request of its own; only an answer of 200 to 299 takes it."""
        if self._client is None:
            self._client = HttpClient(allow_private=self._allow_private, connections_max=self.at_once)
        if not parcel.notices:
            body = {"type": "subscription.confirm", "confirm": self._links.to("confirm", parcel.to.id)}
            return await self._post(self._client, parcel.to, f"confirm_{parcel.to.id}", body)
        outcome: Outcome = "sent"
        for notice in parcel.notices:
            outcome = await self._post(self._client, parcel.to, notice.id, self._body(parcel.to, notice))
            if outcome != "sent":
                break
        return outcome

    def _body(self, to: Subscriber, notice: Written) -> dict[str, Any]:
        meta = {
            "unsubscribe": self._links.to("end", to.id),
            "documentation": f"{self._url}/",
            "generated_at": notice.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        proofs = {
            tag: {"code": notice.code, "text": notice.texts[tag], "signature": f"HFN1 {signature}"}
            for tag, signature in notice.signatures.items()
        }
        return {"meta": meta, **notice.hook, "holdfast": {"type": notice.kind, "notice": proofs}}

    async def _post(self, client: HttpClient, to: Subscriber, id_: str, body: dict[str, Any]) -> Outcome:
        content = msgspec.json.encode(body)
        now = self._clock.now()
        headers = {
            "content-type": "application/json",
            "user-agent": "holdfast-status",
            "webhook-id": id_,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(to.secret).sign(id_, now, content.decode()),
        }
        try:
            reply = await client.call("POST", to.address, timeout_s=TIMEOUT_S, headers=headers, body=content)
        except HoldfastError:
            return "later"
        if 200 <= reply.status < 300:
            return "sent"
        return "never" if reply.status == 410 else "later"

    async def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            await self._client.close()


class Others:
    """Every service that Apprise knows, for addresses that operators bring."""

    kind: Kind = "apprise"
    at_once = 4

    def __init__(self, title: str, links: Links) -> None:
        self._title = title
        self._links = links

    async def send(self, parcel: Parcel) -> Outcome:
        """Send the letter by whatever the address names."""
        subject, text = texts(self._title, parcel, self._links)
        target = apprise.Apprise()
        if not target.add(parcel.to.address):
            _log.warning(
                "a subscription's address is of no known service", kind=urlsplit(parcel.to.address).scheme
            )
            return "never"
        sent = await asyncio.to_thread(target.notify, body=text, title=subject)
        return "sent" if sent else "later"

    async def close(self) -> None:
        """Nothing stays open."""

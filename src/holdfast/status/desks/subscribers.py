"""Subscriptions: asked for by anybody, confirmed and ended by a link, and those that operators bring.

What is answered to somebody who asks is the same whether an address is known or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, get_args

import msgspec
from aiohttp import web

from holdfast.base.errors import Refused
from holdfast.status.access import Doorman
from holdfast.status.desks.common import Desk, RequestWrong, answer
from holdfast.status.keeper import Keeper
from holdfast.status.model import Cause
from holdfast.status.subscriptions.links import Links, LinkWrong, Purpose
from holdfast.status.subscriptions.sender import Sender
from holdfast.status.subscriptions.store import Roll
from holdfast.status.subscriptions.wishes import Digest, Kind, Rank, Wishes, WishesInvalid, check_address
from holdfast.status.words import TAGS, Tag, Words

ASKED_PER_MINUTE_MAX: Final = 120
"""Subscriptions asked for in a minute, of all together: each makes us send a message to a stranger."""
Said = Callable[[Tag, Words, Words, str], bytes]
"""Makes a page: language, heading, text, and the address of a button or nothing."""


class SubscribersBusy(Refused):
    """Too many ask at the moment. Try again in a minute."""

    code = "status_subscribers_busy"


class ChannelMissing(Refused):
    """The service does not send that way: its operator has not set it up."""

    code = "status_channel_missing"


class SubscriptionAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody wishes."""

    kind: Kind
    address: Annotated[str, msgspec.Meta(max_length=1_000)]
    wishes: Wishes = Wishes()


class BroughtAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Subscriptions that an operator answers for, confirmed at once."""

    kind: Kind
    addresses: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=10_000)]
    wishes: Wishes = Wishes()


class Subscribers(Desk):
    """The routes."""

    def __init__(
        self,
        keeper: Keeper,
        doorman: Doorman,
        roll: Roll,
        links: Links,
        sender: Sender,
        kinds: set[Kind],
        said: Said,
    ) -> None:
        super().__init__(keeper, doorman)
        self._roll = roll
        self._links = links
        self._sender = sender
        self._kinds = kinds
        self._said = said
        self._minute, self._asked = 0, 0

    def routes(self) -> list[web.RouteDef]:
        """Return them."""
        return [
            web.post("/subscriptions", self.ask),
            web.get("/subscriptions/{purpose:confirm|end}/{token}", self.offer),
            web.post("/subscriptions/{purpose:confirm|end}/{token}", self.act),
            web.get("/v1/subscribers", self.counts),
            web.post("/v1/subscribers", self.bring),
        ]

    async def ask(self, request: web.Request) -> web.Response:
        """Take a wish, from a form or as JSON; it counts once it is confirmed by what is sent there."""
        form = request.content_type == "application/x-www-form-urlencoded"
        asked = _of_form(await request.post()) if form else await self.read(request, SubscriptionAsked)
        tag = asked.wishes.tag
        try:
            secret = self._taken(asked)
        except Refused as error:
            if not form:
                raise
            heading = Words("That did not work", "未能订阅")
            return self._page(tag, heading, Words(error.message, error.message), status=422)
        if form:
            return self._page(tag, _ASKED, _ASKED_TEXT)
        return answer({"asked": True} | ({"secret": secret} if secret else {}), 202)

    def _taken(self, asked: SubscriptionAsked) -> str:
        if asked.kind == "apprise":
            raise WishesInvalid("Only operators subscribe such addresses: POST /v1/subscribers.")
        self._has(asked.kind)
        asked.wishes.check()
        self.known(*asked.wishes.components)
        address = check_address(asked.kind, asked.address)
        self._paced()
        made = self._roll.ask(asked.kind, address, asked.wishes, self.keeper.now().timestamp())
        self._sender.wake()
        return made.secret if made else ""

    def _has(self, kind: Kind) -> None:
        if kind not in self._kinds:
            raise ChannelMissing

    def _paced(self) -> None:
        minute = int(self.keeper.now().timestamp() // 60)
        if minute != self._minute:
            self._minute, self._asked = minute, 0
        self._asked += 1
        if self._asked > ASKED_PER_MINUTE_MAX:
            raise SubscribersBusy

    async def offer(self, request: web.Request) -> web.Response:
        """Show a button: programs that look at links in mail must neither confirm nor end anything."""
        purpose, id_ = self._link(request)
        one = self._roll.find(id_)
        tag: Tag = one.wishes.tag if one else "en"
        heading, text = _OFFERS[purpose]
        return self._page(tag, heading, text, self._links.to(purpose, id_))

    async def act(self, request: web.Request) -> web.Response:
        """Confirm a subscription, or end one with one click (RFC 8058)."""
        purpose, id_ = self._link(request)
        one = self._roll.find(id_)
        tag: Tag = one.wishes.tag if one else "en"
        if purpose == "end":
            self._roll.end(id_)
            return self._page(tag, *_ENDED)
        if not self._roll.confirm(id_, self.keeper.now().timestamp()):
            raise LinkWrong
        return self._page(tag, *_CONFIRMED)

    def _link(self, request: web.Request) -> tuple[Purpose, int]:
        purpose: Purpose = "end" if request.match_info["purpose"] == "end" else "confirm"
        return purpose, self._links.subscriber(purpose, request.match_info["token"])

    async def counts(self, request: web.Request) -> web.Response:
        """Tell operators how many subscriptions there are, and how sending goes; no addresses."""
        self.who(request)
        counts = [
            {"kind": kind, "state": state, "count": many}
            for (kind, state), many in self._roll.counts().items()
        ]
        return answer({"subscribers": counts, "waiting": self._roll.waiting(), "sending": self._sender.tally})

    async def bring(self, request: web.Request) -> web.Response:
        """Subscribe addresses that an operator answers for."""
        self.who(request)
        asked = await self.read(request, BroughtAsked)
        self._has(asked.kind)
        if asked.kind == "webhook":
            raise RequestWrong("A webhook is confirmed by its receiver: POST /subscriptions.")
        asked.wishes.check()
        self.known(*asked.wishes.components)
        many = [(check_address(asked.kind, address), asked.wishes) for address in asked.addresses]
        self._roll.put(asked.kind, many, self.keeper.now().timestamp())
        return answer({"subscribed": len(many)}, 201)

    def _page(
        self, tag: Tag, heading: Words, text: Words, button: str = "", status: int = 200
    ) -> web.Response:
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "X-Robots-Tag": "noindex",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
            "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        }
        return web.Response(body=self._said(tag, heading, text, button), status=status, headers=headers)


def _of_form(form: Any) -> SubscriptionAsked:  # noqa: ANN401 - a multi-dict of the framework
    """Read the form of the page. Raises: `RequestWrong`."""

    def one(name: str, default: str) -> str:
        return str(form.get(name, default)).strip()

    tag = one("tag", "en")
    raw = {
        "kind": "email",
        "address": one("address", ""),
        "wishes": {
            "tag": tag if tag in TAGS else "en",
            "components": [str(each) for each in form.getall("component", [])],
            "causes": [each for each in form.getall("cause", []) if each in get_args(Cause)],
            "maintenance": one("maintenance", "") == "yes",
            "least": one("least", "minor") if one("least", "minor") in get_args(Rank) else "minor",
            "quiet_from": one("quiet_from", "")[:5],
            "quiet_to": one("quiet_to", "")[:5],
            "zone": one("zone", "UTC") or "UTC",
            "digest": one("digest", "") if one("digest", "") in get_args(Digest) else "",
        },
    }
    try:
        return msgspec.convert(raw, SubscriptionAsked)
    except msgspec.ValidationError as error:
        raise RequestWrong(f"{error}.") from None


_ASKED: Final = Words("Look into your mailbox", "请查收邮件")
_ASKED_TEXT: Final = Words(
    "If this address is not subscribed yet, a letter is on its way to it. Open the link in it to confirm.",
    "如果该地址尚未订阅，确认邮件已发出。请打开邮件中的链接完成订阅。",
)
_OFFERS: Final[dict[Purpose, tuple[Words, Words]]] = {
    "confirm": (Words("Confirm your subscription", "确认订阅"), Words("One more click.", "还差一步。")),
    "end": (
        Words("End your subscription", "退订"),
        Words("You will get no more notices.", "您将不再收到通知。"),
    ),
}
_CONFIRMED: Final = (
    Words("You are subscribed", "订阅成功"),
    Words(
        "We write when something breaks or is planned. Each letter has a link to end it.",
        "发生故障或计划维护时我们会通知您。每封邮件都附有退订链接。",
    ),
)
_ENDED: Final = (
    Words("Your subscription has ended", "已退订"),
    Words("Your address is deleted.", "您的地址已删除。"),
)

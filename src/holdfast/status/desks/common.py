"""What all desks share: who asks, what the request says, and how an answer is written."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from aiohttp import web

from holdfast.base.errors import Refused
from holdfast.status.access import Doorman, Role
from holdfast.status.keeper import Keeper
from holdfast.status.words import Words

BODY_BYTES_MAX: Final = 1_048_576
"""A report of the most rows that one may have fits."""
T = TypeVar("T")
Text = Annotated[str, msgspec.Meta(max_length=20_000)]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


class ComponentUnknown(Refused):
    """There is no such component in the capability graph."""

    code = "status_component_unknown"


class RequestWrong(Refused):
    """The request is not what is expected here; the message says where."""

    code = "status_request_wrong"


class Spoken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text in one or both languages."""

    en: Text = ""
    zh: Text = ""

    def words(self) -> Words:
        """Return it. Raises: `RequestWrong` when it says nothing."""
        if not (self.en.strip() or self.zh.strip()):
            raise RequestWrong("A text is needed in English (`en`) or in Chinese (`zh`).")
        return Words(self.en, self.zh)


class Desk:
    """A part of the API."""

    def __init__(self, keeper: Keeper, doorman: Doorman) -> None:
        self.keeper = keeper
        self.doorman = doorman

    def who(self, request: web.Request, role: Role = "operator") -> str:
        """Return whose token a request bears. Raises: `TokenMissing`, `TokenWrong`."""
        return self.doorman.name_of(request.headers.get("Authorization"), role)

    async def read(self, request: web.Request, kind: type[T]) -> T:
        """Return what a request says. Raises: `RequestWrong`."""
        try:
            return msgspec.json.decode(await request.read(), type=kind)
        except msgspec.DecodeError as error:
            raise RequestWrong(f"{error}.") from None

    def known(self, *components: str) -> None:
        """Refuse components that are not in the graph. Raises: `ComponentUnknown`."""
        for component in components:
            if component not in self.keeper.graph.components:
                raise ComponentUnknown(f"There is no component {component[:60]!r}.")


def answer(body: object, status: int = 200, kind: str = "application/json") -> web.Response:
    """Write an answer as JSON, to be kept by nobody."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=msgspec.json.encode(body), status=status, content_type=kind, headers=headers)

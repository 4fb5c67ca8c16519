"""Bodies decoded strictly: "1" and 1.0 are no whole numbers, and what is not known is refused.

The framework's own way converts where it can, which is right for query strings and wrong for amounts of
money.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from litestar._openapi.schema_generation import SchemaCreator
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from holdfast.api.errors import RequestInvalid

T = TypeVar("T")


_decoders: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def decode(body: bytes, shape: type[T]) -> T:
    """Return `body` as a `shape`. Raises: `RequestInvalid`, which names the place."""
    try:
        decoder = _decoders.get(shape)
        if decoder is None:
            decoder = _decoders[shape] = msgspec.json.Decoder(shape)
        decoded: T = decoder.decode(body)
    except msgspec.DecodeError as error:
        raise RequestInvalid(_words(str(error))) from None
    return decoded


def _words(text: str) -> str:
    message, _, place = text.partition(" - at ")
    return f"{place.strip('`')}: {message}." if place else f"{message}."


class StrictBody(AbstractDTO[Any]):
    """Has the framework decode bodies by `decode`, and describe them in the OpenAPI document as they are."""

    _shapes: ClassVar[dict[str, Any]] = {}

    @classmethod
    def create_for_field_definition(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,
        backend_cls: Any = None,  # noqa: ANN401, ARG003 - the framework's signature
    ) -> None:
        """Remember what the handler expects."""
        cls._shapes[handler_id] = field_definition.annotation

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,  # noqa: ARG003 - the framework's signature
        schema_creator: SchemaCreator,
    ) -> Reference | Schema:
        """Describe the body."""
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """Yield nothing: fields are not renamed or left out here."""
        del model_type
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Return False: shapes are decoded whole."""
        del field_definition
        return False

    def decode_bytes(self, value: bytes) -> Any:  # noqa: ANN401 - what the handler expects
        """Decode a body. Raises: `RequestInvalid`."""
        handler_id: str = self.asgi_connection.route_handler.handler_id
        return decode(value, self._shapes[handler_id])

    def decode_builtins(self, value: dict[str, Any]) -> Any:  # noqa: ANN401, ARG002 - the framework's signature
        """Refuse forms: bodies are JSON here."""
        raise RequestInvalid("The body must be JSON.")

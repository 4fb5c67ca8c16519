"""Logs: one readable line per event on a terminal, JSON elsewhere.

What must not be seen is masked before it is written.

Masking works twice: by the name of a field (`authorization`, `secret_key`, `password`, …) and by the look
of the text (card numbers that pass the Luhn check, bearer tokens, API keys, webhook secrets, passwords
inside connection strings).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal

import structlog

from holdfast.base.secret import Secret

MASK: Final = "***"
_FIELD: Final = re.compile(
    r"authori[sz]ation|cookie|passw|secret|(^|_)(pan|cvc|cvv|pin|otp|token)($|_)|card_?number|api_?key|private_?key|(^|_)dsn($|_)",
    re.IGNORECASE,
)
_CARD: Final = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_PATTERNS: Final = (
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), r"\1 " + MASK),
    (
        re.compile(r"\b((?:sk|rk|pk|hk)_(?:live|test)_|whsec_|xox[bp]-|ghp_)[A-Za-z0-9_+/=-]{4,}"),
        r"\1" + MASK,
    ),
    (re.compile(r"(://[^\s:/@]*:)[^\s@/]+@"), r"\1" + MASK + "@"),
    (
        re.compile(
            r"((?:password|passwd|secret|token|api_key)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;}]+", re.IGNORECASE
        ),
        r"\1" + MASK,
    ),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL),
        MASK,
    ),
)


def _luhn(digits: str) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _mask_card(match: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", match[0])
    return f"{MASK}{digits[-4:]}" if _luhn(digits) else match[0]


def mask_text(text: str) -> str:
    """Return `text` with whatever looks like a secret masked; of a card number the last four digits stay."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return _CARD.sub(_mask_card, text)


def mask(value: object, *, name: str = "") -> object:
    """Return `value` with secrets masked, by field name and by look, inside mappings and sequences too."""
    if isinstance(value, Secret) or (name and _FIELD.search(name) and value not in (None, "")):
        return MASK
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, bytes):
        return mask_text(value.decode(errors="replace"))
    if isinstance(value, Mapping):
        return {key: mask(item, name=str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [mask(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10**12:
        return mask_text(str(value)) if mask_text(str(value)) != str(value) else value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return mask_text(str(value))


def _mask_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in list(event):
        event[name] = mask(event[name], name=name)
    return event


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["auto", "text", "json"] = "auto",
    *,
    mode: Literal["development", "production"] = "development",
    process: str = "",
) -> None:
    """Set up logging for this process, for `structlog` and for libraries that use `logging`.

    Lines go to stderr.
    """
    as_text = form == "text" or (form == "auto" and (mode == "development" or sys.stderr.isatty()))
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask_event,
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if as_text
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    logging.captureWarnings(True)
    structlog.contextvars.clear_contextvars()
    if process:
        structlog.contextvars.bind_contextvars(process=process)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module: `logger(__name__).info("what happened", fact=…)`."""
    return structlog.stdlib.get_logger(name)

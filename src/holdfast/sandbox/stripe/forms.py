"""Form bodies with brackets, as Stripe's API reads them: `a[b]=1`, `a[]=1`, `a[0][b]=1`."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

Form = dict[str, Any]
FIELDS_MAX: Final = 500
DEPTH_MAX: Final = 6
_NAME: Final = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")


class FormError(ValueError):
    """The body is not a form that this API reads."""


def read(text: str) -> Form:
    """Parse an urlencoded text into nested dicts; lists come back as lists of texts or dicts.

    Raises: `FormError`.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise FormError("Invalid form body") from error
    root: Form = {}
    for name, value in pairs:
        match = _NAME.match(name)
        if match is None:
            raise FormError(f"Invalid parameter name: {name}")
        parts = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        if len(parts) > DEPTH_MAX:
            raise FormError(f"Parameter nested too deeply: {name}")
        _place(root, parts, value, name)
    return {key: _settle(value) for key, value in root.items()}


def _place(node: Form, parts: list[str], value: str, name: str) -> None:
    for part in parts[:-1]:
        step = node.setdefault(_slot(node, part), {})
        if not isinstance(step, dict):
            raise FormError(f"Parameter given twice with different shapes: {name}")
        node = step
    node[_slot(node, parts[-1])] = value


def _slot(node: Form, part: str) -> str:
    return part or str(len(node))


def _settle(value: Any) -> Any:  # noqa: ANN401 - nested texts, lists and dicts
    """Turn dicts whose keys count from 0 into lists."""
    if not isinstance(value, dict):
        return value
    settled = {key: _settle(inner) for key, inner in value.items()}
    if settled and list(settled) == [str(i) for i in range(len(settled))]:
        return list(settled.values())
    return settled

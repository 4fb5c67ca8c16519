"""What a body must pass before anything parses it."""

from __future__ import annotations

import json
import os
import random

import pytest

from holdfast.api.body import BodyMalformed, BodyTooDeep, BodyTooLarge, check_json, depth
from holdfast.base.errors import HoldfastError
from holdfast.base.limits import BODY_BYTES_MAX, BODY_DEPTH_MAX

REFUSED: list[tuple[str, bytes, type[HoldfastError]]] = [
    ("v5.0.0-1.5.3 a key that stands twice is refused", b'{"a":1,"a":2}', BodyMalformed),
    ("a key that stands twice deeper down is refused", b'{"x":[{"a":1,"b":{"c":1,"c":1}}]}', BodyMalformed),
    ("a key that is the same once unescaped is refused", b'{"a":1,"\\u0061":2}', BodyMalformed),
    ("a key that begins with a colon and stands twice is refused", b'{":x":1,"b":"v",":x":2}', BodyMalformed),
    (
        "keys that look like what stands between two strings are told apart",
        b'{"a":"v",":x":"w",":x":2}',
        BodyMalformed,
    ),
    ("keys that hold a comma and stand twice are refused", b'{",":"v",",":2}', BodyMalformed),
    ("NaN is no JSON number", b'{"a":NaN}', BodyMalformed),
    ("Infinity is no JSON number", b'{"a":Infinity}', BodyMalformed),
    ("minus Infinity is no JSON number", b'{"a":-Infinity}', BodyMalformed),
    ("a number of thousands of digits is refused", b'{"a":' + b"9" * 5000 + b"}", BodyMalformed),
    ("what follows the value is refused", b'{"a":1} {"a":2}', BodyMalformed),
    ("a byte order mark is refused", b'\xef\xbb\xbf{"a":1}', BodyMalformed),
    ("bytes that are not UTF-8 are refused", b'{"a":"\xff"}', BodyMalformed),
    ("an overlong UTF-8 sequence is refused", b'{"a":"\xc0\xaf"}', BodyMalformed),
    ("a NUL inside a string is refused", b'{"a":"\\u0000"}', BodyMalformed),
    ("a body that is cut off is refused", b'{"a":', BodyMalformed),
    ("a comment is refused", b'{"a":1} // x', BodyMalformed),
    ("a trailing comma is refused", b'{"a":1,}', BodyMalformed),
    ("nesting beyond the bound is refused", b"[" * 17 + b"]" * 17, BodyTooDeep),
    ("nesting of thousands of levels is refused", b"[" * 60_000, BodyTooDeep),
    ("a body beyond the bound is refused", b'"' + b"x" * BODY_BYTES_MAX + b'"', BodyTooLarge),
]

TAKEN: list[tuple[str, bytes]] = [
    ("an object is taken", b'{"a":1,"b":{"a":1}}'),
    ("nesting up to the bound is taken", b"[" * BODY_DEPTH_MAX + b"]" * BODY_DEPTH_MAX),
    ("braces inside strings do not nest", b'{"a":"' + b"{[" * 500 + b'"}'),
    ("an escaped quote does not end a string", b'{"a":"\\"' + b"{[" * 50 + b'"}'),
    ("a text that begins with a colon is no key", b'{"a":["x",":y",":y"]}'),
    ("the same key in sibling objects is taken", b'[{"a":1},{"a":1}]'),
    ("text beyond ASCII is taken", '{"a":"余额 💰"}'.encode()),
    ("a body of exactly the bound is taken", b'"' + b"x" * (BODY_BYTES_MAX - 2) + b'"'),
]


@pytest.mark.parametrize(("body", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_body_that_could_mean_two_things_or_cost_too_much_is_refused(
    body: bytes, error: type[HoldfastError]
) -> None:
    with pytest.raises(error):
        check_json(body)


@pytest.mark.parametrize("body", [row[1] for row in TAKEN], ids=[row[0] for row in TAKEN])
def test_a_body_that_is_plain_json_is_taken(body: bytes) -> None:
    check_json(body)


def test_the_depth_of_any_json_is_counted_as_a_parser_sees_it() -> None:
    seed = int(os.environ.get("SEED", random.randrange(10**9)))
    print(f"SEED={seed}")
    chance = random.Random(seed)

    def make(levels: int) -> object:
        if levels == 0:
            return chance.choice(["", "{", '"[', "\\", '\\"{{', 7, None])
        return (
            [make(levels - 1)]
            if chance.random() < 0.5
            else {chance.choice(["k", "]", '"}']): make(levels - 1)}
        )

    for _ in range(500):
        levels = chance.randrange(0, 12)
        assert depth(json.dumps(make(levels)).encode()) == levels


def test_what_is_taken_at_a_glance_is_taken_by_a_reader_that_sees_each_key() -> None:
    """The quick look of `check_json` may send a body to the careful one, never past it."""
    seed = int(os.environ.get("SEED", random.randrange(10**9)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    pieces = ["{", "}", "[", "]", ",", ":", '"', '"a"', '"b"', '":"', '":a"', " ", "\n", "7", "1.5", "9" * 45]
    pieces += ['"a":', '"b":', '"a" :', '"\t":', "null", "\\", '"x":{"a":1}', '"a":"v",']

    def no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    taken = 0
    for _ in range(20_000):
        body = "{" + "".join(chance.choices(pieces, k=chance.randrange(1, 9))) + "}"
        try:
            check_json(body.encode())
        except HoldfastError:
            continue
        taken += 1
        json.loads(body, object_pairs_hook=no_key_twice, strict=False)
    assert taken > 100, "too few bodies were JSON for this to show anything"

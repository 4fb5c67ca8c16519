"""What an Idempotency-Key may be, and what an API key is."""

from __future__ import annotations

import pytest

from holdfast.api.once import KeyMalformed, KeyMissing, read_key
from holdfast.domains.merchants import KeyInvalid, Right, RightMissing, Role, check_right
from holdfast.domains.merchants.rules import digest, hint, key_text

READ: list[tuple[str, str, str]] = [
    ("a bare key is taken as most send it", "8e03978e-40d5-43dd", "8e03978e-40d5-43dd"),
    ("a quoted key is the same key", '"8e03978e-40d5-43dd"', "8e03978e-40d5-43dd"),
    ("an escaped quote inside a quoted key is a quote", '"a\\"b"', 'a"b'),
    ("an escaped backslash inside a quoted key is a backslash", '"a\\\\b"', "a\\b"),
    ("spaces around a key do not count", "  abc  ", "abc"),
    ("a key of the greatest length is taken", "k" * 128, "k" * 128),
]

REFUSED: list[tuple[str, str]] = [
    ("an empty key", ""),
    ("an empty quoted key", '""'),
    ("a key that is too long", "k" * 129),
    ("a quoted key that does not end", '"abc'),
    ("a quoted key with something after it", '"abc"x'),
    ("a quoted key with another escape", '"a\\n"'),
    ("a key beyond ASCII", "ключ"),
    ("a key with a control character", "a\tb"),
]


@pytest.mark.parametrize(("header", "key"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_an_idempotency_key_is_read(header: str, key: str) -> None:
    assert read_key(header) == key


@pytest.mark.parametrize("header", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_an_idempotency_key_is_refused(header: str) -> None:
    with pytest.raises(KeyMalformed):
        read_key(header)


def test_a_missing_idempotency_key_is_its_own_refusal() -> None:
    with pytest.raises(KeyMissing):
        read_key(None)


def test_v5_0_0_11_5_1_an_api_key_carries_256_random_bits_and_names_its_mode() -> None:
    key = key_text(Role.FULL, live=False, entropy=bytes(range(32)))
    assert key.startswith("sk_test_")
    assert len(key) == len("sk_test_") + 43
    assert key_text(Role.PUBLISHABLE, live=True, entropy=bytes(32)).startswith("pk_live_")


def test_v5_0_0_13_3_1_what_is_kept_of_an_api_key_does_not_reveal_it() -> None:
    key = key_text(Role.FULL, live=True, entropy=bytes(range(32)))
    assert len(digest(key)) == 32
    assert key[8:-4] not in hint(key)


@pytest.mark.parametrize(
    "text", ["", "sk_test_", "sk_test_" + "a" * 42, "xx_test_" + "a" * 43, "sk_test_" + "a" * 42 + "é"]
)
def test_what_cannot_be_an_api_key_is_refused_without_asking_the_database(text: str) -> None:
    with pytest.raises(KeyInvalid):
        digest(text)


def test_v5_0_0_8_2_1_a_key_may_do_only_what_its_role_includes() -> None:
    allowed = {
        Role.FULL: {Right.MOVE_MONEY, Right.MANAGE, Right.READ, Right.SEE_HEALTH},
        Role.READ_ONLY: {Right.READ, Right.SEE_HEALTH},
        Role.PUBLISHABLE: {Right.SEE_HEALTH},
    }
    for role in Role:
        for right in Right:
            if right in allowed[role]:
                check_right(role, right)
            else:
                with pytest.raises(RightMissing):
                    check_right(role, right)

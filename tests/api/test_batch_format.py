"""How a batch of transfers is written: its body, however spelled, and what is kept of its answer."""

from __future__ import annotations

import json
import os
import secrets
from random import Random
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from holdfast.api.batch_answer import REFUSALS, packed, unpacked
from holdfast.api.batch_answer import _public as written
from holdfast.api.batch_body import read_transfers
from holdfast.api.body import BodyMalformed, check_json
from holdfast.api.errors import TABLE
from holdfast.base.errors import Broken
from holdfast.base.ids import public


def spelled(value: Any, rng: Random, *, twice: list[str]) -> str:
    """Write JSON in one of its many ways; once in a while with a key twice, which is noted in `twice`."""
    space = rng.choice(("", "", " ", "\n\t"))
    if isinstance(value, dict):
        pairs = list(value.items())
        if pairs and rng.random() < 0.03:
            pairs.insert(rng.randrange(len(pairs) + 1), rng.choice(pairs))
            twice.append("")
        inside = [
            f"{spelled(key, rng, twice=twice)}{space}:{space}{spelled(one, rng, twice=twice)}"
            for key, one in pairs
        ]
        return "{" + space + f"{space},".join(inside) + "}"
    if isinstance(value, list):
        return "[" + f",{space}".join(spelled(one, rng, twice=twice) for one in value) + space + "]"
    if isinstance(value, str) and rng.random() < 0.1:
        return '"' + "".join(f"\\u{ord(character):04x}" for character in value) + '"'
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def test_v5_0_0_1_5_3_a_key_that_stands_twice_is_found_however_the_body_is_written() -> None:
    chosen = int(os.environ.get("SEED", secrets.randbelow(10**9)))
    print(f"SEED={chosen}")
    rng = Random(chosen)
    letters = ['"', "\\", ":", ",", "{", "}", "[", "]", " ", "a", "中", "/", "\n", "'"]
    refused = 0
    for _ in range(3_000):

        def text(longest: int) -> str:
            return "".join(rng.choices(letters, k=rng.randrange(longest)))

        items = []
        for _ in range(rng.randrange(1, 4)):
            one: dict[str, Any] = {"source": text(9), "destination": text(9)}
            one["amount"] = {"asset": text(5), "amount_minor": rng.randrange(1, 9)}
            if rng.random() < 0.4:
                one["id"] = str(UUID(int=rng.getrandbits(128)))
            if rng.random() < 0.4:
                one["reference"] = text(12)
            if rng.random() < 0.4:
                one["metadata"] = {key: text(7) for key in rng.sample("abc:._-", rng.randrange(4))}
            items.append(one)
        asked = {"transfers": items} | ({"all_or_none": rng.random() < 0.5} if rng.random() < 0.3 else {})
        twice: list[str] = []
        body = spelled(asked, rng, twice=twice).encode()
        if twice:
            refused += 1
            with pytest.raises(BodyMalformed):
                check_json(body)
            with pytest.raises(BodyMalformed):
                read_transfers(body)
        else:
            assert json.loads(msgspec.json.encode(read_transfers(body))) == asked
    assert 50 < refused < 2_000


def test_many_ids_are_written_as_each_one_is() -> None:
    rng = Random(7)
    numbers = [0, 1, 2**128 - 1, 2**64, 2**60 - 1, 2**125, *(rng.getrandbits(128) for _ in range(500))]
    raw = b"".join(number.to_bytes(16, "big") for number in numbers)
    assert written(raw) == [public("tr", UUID(int=number)) for number in numbers]


def test_what_is_kept_of_an_answer_is_read_again_and_nothing_else_is() -> None:
    batch = uuid4()
    numbers = [0, 1, 19, 71] * 250
    kept = packed(batch, numbers)
    assert unpacked(kept, 1_000) == (batch, numbers)
    for wrong, count in ((kept, 999), (kept, 1_001), (b"HFTB2" + kept[5:], 1_000), (b"", 0)):
        with pytest.raises(Broken):
            unpacked(wrong, count)


def test_every_outcome_of_a_transfer_is_a_code_with_a_line_and_words() -> None:
    assert {refusal.code for refusal in REFUSALS.values()} <= set(TABLE)
    assert all(refusal.words and number < 256 for number, refusal in REFUSALS.items())

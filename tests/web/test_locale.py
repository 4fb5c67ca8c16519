"""Amounts and durations as people write them."""

from __future__ import annotations

import pytest

from holdfast.base.money import Money, asset
from holdfast.web.locale import Language


@pytest.mark.parametrize(
    ("tag", "code", "amount_minor", "text"),
    [
        ("zh-CN", "CNY", 26_800, "¥268.00"),
        ("en", "CNY", 26_800, "CN¥268.00"),
        ("en", "USD", 123_456_789, "$1,234,567.89"),
        ("en", "JPY", 1_500, "¥1,500"),
        ("zh-CN", "JPY", 1_500, "JP¥1,500"),
        ("en", "POINTS", 1_200, "1,200 POINTS"),
        ("en", "USDC", 1_500_001, "1.500001 USDC"),
        ("en", "USD", 2**53 - 1, "$90,071,992,547,409.91"),
    ],
)
def test_amounts_are_written_exactly_and_in_the_readers_way(
    tag: str, code: str, amount_minor: int, text: str
) -> None:
    assert Language(tag).money(Money(asset(code), amount_minor)) == text


@pytest.mark.parametrize(
    ("duration_s", "english", "chinese"),
    [
        (0.0, "0.0 s", "0.0 秒"),
        (4.26, "4.3 s", "4.3 秒"),
        (9.97, "10 s", "10 秒"),
        (61, "61 s", "61 秒"),
        (150, "2 min", "2 分钟"),
    ],
)
def test_durations_have_as_many_digits_as_matter(duration_s: float, english: str, chinese: str) -> None:
    assert Language("en").seconds(duration_s) == english
    assert Language("zh-CN").seconds(duration_s) == chinese

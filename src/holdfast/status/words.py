"""Texts for people, in both languages side by side."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

Tag = Literal["en", "zh-CN"]
"""Language tags (BCP 47) of the pages."""

TAGS: Final[tuple[Tag, ...]] = ("en", "zh-CN")
NAMES: Final[dict[Tag, str]] = {"en": "English", "zh-CN": "简体中文"}
"""Each language in its own words: what its link says."""


class Words(msgspec.Struct, frozen=True):
    """One text in English and in Chinese. Where one is missing, the other stands in."""

    en: str
    zh: str = ""

    def say(self, tag: Tag) -> str:
        """Return the text in a language, or what there is."""
        return (self.zh or self.en) if tag == "zh-CN" else (self.en or self.zh)


def place(tag: Tag, name: str) -> str:
    """Return the path of a page in a language."""
    return name if tag == "en" else f"zh/{name}"


def moment(at: datetime) -> str:
    """Write a moment for people, to the minute: 2026-11-11 12:00 UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")

"""Both languages say everything."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from holdfast.flows import demo
from holdfast.web.locale import LOCALES, NAMES, Language, choose
from tests.support.catalogue import said, written

PLACES = re.compile(r"%\((\w+)\)s")
TRANSLATED = [tag for tag in LOCALES if tag != "en"]


@pytest.mark.parametrize("tag", TRANSLATED)
def test_every_text_of_the_pages_is_translated_with_its_places_kept(tag: str) -> None:
    catalogue = written(tag)
    texts = [str(message.id) for message in said() if message.id]
    assert len(texts) > 100, "texts were found at all"
    for text in texts:
        message = catalogue.get(text)
        assert message is not None, f"no entry for {text!r}: run python -m tests.support.catalogue"
        assert message.string, f"no {tag} translation of {text!r}"
        assert not message.fuzzy, f"the {tag} translation of {text!r} is marked as a guess"
        assert sorted(PLACES.findall(str(message.string))) == sorted(PLACES.findall(text)), text


@pytest.mark.parametrize("tag", TRANSLATED)
def test_the_catalogue_has_no_text_that_no_page_says(tag: str) -> None:
    known = {message.id for message in said()}
    assert not [message.id for message in written(tag) if message.id and message.id not in known]


def test_what_the_demonstration_data_names_is_translated() -> None:
    payer = next(one for one in demo.PAYERS if one.name == demo.PAYER_NAME)
    for name in (demo.SHOP_NAME, *(one.label for one in payer.instruments)):
        assert Language("zh-CN").say(name) != name


def test_every_language_names_itself() -> None:
    assert NAMES.keys() == LOCALES.keys()


@pytest.mark.parametrize(
    ("asked", "cookie", "header", "tag"),
    [
        ("zh-CN", "en", "en", "zh-CN"),
        (None, "zh-CN", "en", "zh-CN"),
        (None, None, "zh-TW;q=0.4, en-GB;q=0.9", "en"),
        (None, None, "fr, zh-Hans-CN;q=0.8, en;q=0.7", "zh-CN"),
        (None, None, "en;q=0, zh", "zh-CN"),
        ("xx", "../../etc", "q=;;,,", "en"),
        (None, None, None, "en"),
    ],
)
def test_a_link_wins_over_a_cookie_and_a_cookie_over_the_browser(
    asked: str | None, cookie: str | None, header: str | None, tag: str
) -> None:
    assert choose(asked, cookie, header) == tag


def test_texts_use_named_places_only() -> None:
    for message in said():
        for _, name, _, _ in Formatter().parse(str(message.id)):
            assert name is None, f"{message.id!r} has a brace"

"""Is this really you? Whether a message, a link, a number or an address is ours.

Every notice carries a code, as HF-7K3Q-9M2D. All codes are published with a digest of the words that they
belong to, in a file that the site's signature covers; so anybody can check a message without asking us, also
offline. A code alone proves nothing, since it can be copied: the words must be those that it was sent with,
and what else stands in the message must be ours, too.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from holdfast.status.seal import verify_folder, verify_text
from holdfast.status.words import Words

TEXT_CHARS_MAX: Final = 10_000
"""Longest text that is looked at: longer than any notice."""
FILE: Final = "notices.json"
_NEVER_OLD: Final = datetime.min.replace(tzinfo=UTC)
_LINES_MAX: Final = 40
"""Lines of a notice."""
_DIGEST_DIGITS: Final = 32
"""128 bits: enough that nobody finds other words for a digest, and short enough to publish many."""
_CODES_MAX: Final = 5
"""Places of one text at which a notice may end: each costs as many digests as a notice has lines."""
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE: Final = re.compile(r"\bHF-?([0-9A-Z]{4})-?([0-9A-Z]{4})\b", re.IGNORECASE)
_PROOF: Final = re.compile(r"HFN1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ([A-Za-z0-9_-]{86})")
_LINK: Final = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'）)，。]+", re.IGNORECASE)
_EMAIL: Final = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_PHONE: Final = re.compile(r"(?<![\w:/.-])\+?\d[\d\s()/-]{5,}\d(?![\w-])")

Verdict = Literal["ours", "altered", "foreign", "unknown"]
"""`ours`: genuine. `altered`: it bears a code of ours, but not its words. `foreign`: it names what is not
ours, so do nothing that it asks. `unknown`: nothing in it can be told from anybody's."""


class Official(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where we can be reached, and from where we write: domains (with all below them), addresses, numbers."""

    domains: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: the verdict, in words, and what of the text it rests on."""

    verdict: Verdict
    words: Words
    about: tuple[str, ...] = ()


def code_of(notice: str) -> str:
    """Return the code of a notice, from its id: eight digits of Crockford's base 32, 40 bits."""
    number = int.from_bytes(hashlib.sha256(f"holdfast-notice/1\n{notice}".encode()).digest()[:5], "big")
    digits = "".join(_ALPHABET[number >> shift & 31] for shift in range(35, -1, -5))
    return f"HF-{digits[:4]}-{digits[4:]}"


def path_of(code: str) -> str:
    """Return the place for which the signature of a notice is made."""
    return f"notice/{code}"


def digest_of(text: str) -> str:
    """Return the digest of a text by which its words are compared (the first half of SHA-256, hex).

    Letters that look alike in other widths (NFKC), capitals and white space make no difference, since mail
    programs change them.
    """
    plain = "".join(unicodedata.normalize("NFKC", text).lower().split())
    return hashlib.sha256(plain.encode()).hexdigest()[:_DIGEST_DIGITS]


class _Published(msgspec.Struct, frozen=True):
    """The file of the site in which all of it stands."""

    official: Official
    notices: dict[str, frozenset[str]]


def published(site: Path, key: str) -> tuple[Official, Mapping[str, frozenset[str]]]:
    """Return what a published site says of us and of our notices, once its signature is checked.

    Its age is not: what was ours stays ours. Raises: `PublicKeyInvalid`, `SignatureWrong`.
    """
    verify_folder(site, key, _NEVER_OLD)
    found = msgspec.json.decode((site / FILE).read_bytes(), type=_Published)
    return found.official, found.notices


def encoded(official: Official, notices: Mapping[str, list[str]]) -> bytes:
    """Return the file that `published` reads."""
    return msgspec.json.encode({"official": official, "notices": notices})


def check(text: str, official: Official, notices: Mapping[str, frozenset[str]]) -> Finding:
    """Tell whether `text` is ours. `notices`: the digests of the texts of each code.

    A message is compared line by line, so that what a mail program puts around it does not matter: somewhere
    in it the lines of the notice must stand, whole and in order.
    """
    text = unicodedata.normalize("NFKC", text[:TEXT_CHARS_MAX])
    text = _PROOF.sub(" ", text)
    foreign = _foreign(text, official)
    codes = ["HF-{}-{}".format(*found) for found in _CODE.findall(text.upper())[:_CODES_MAX]]
    known = [code for code in codes if code in notices]
    if foreign:
        return Finding("foreign", SAID["foreign"], foreign)
    if known and all(_has_words(text, code, notices[code]) for code in known):
        return Finding("ours", SAID["ours"], tuple(known))
    if codes:
        return Finding("altered", SAID["altered" if known else "no_code"], tuple(known or codes))
    named = (*_LINK.findall(text), *_EMAIL.findall(text), *_PHONE.findall(text))
    if named and len("".join(named)) >= len("".join(text.split())) - 2:
        return Finding("ours", SAID["contact"], tuple(named))
    return Finding("unknown", SAID["unknown"])


SAID: Final[dict[str, Words]] = {
    "ours": Words(
        "This is from us: the code and the words belong together.", "这是我们发出的：编码与内容一致。"
    ),
    "contact": Words("This is ours.", "这是我们的。"),
    "altered": Words(
        "The code is ours, but the words are not those that we sent with it. Do nothing that this asks.",
        "编码是我们的，但内容与我们发出的不同。请不要照做。",
    ),
    "no_code": Words(
        "We have sent nothing with this code. Do nothing that this asks.",
        "我们没有发出过带此编码的消息。请不要照做。",
    ),
    "foreign": Words(
        "This names an address or a number that is not ours. Do nothing that this asks.",
        "其中的链接、地址或号码不是我们的。请不要照做。",
    ),
    "unknown": Words(
        "Nothing in this shows that it is from us. All that we send carries a code.",
        "无法证明这是我们发出的。我们发出的消息都带有编码。",
    ),
}
"""What a reader is told. The page that works offline says the same."""


def by_signature(text: str, key: str, now: datetime) -> Finding:
    """Tell by signatures alone whether notices in a text are ours. Raises: `PublicKeyInvalid`."""
    found = check_signed(text, key, now)
    if found:
        return Finding("ours", SAID["ours"], found)
    return Finding("altered", SAID["altered"]) if "HFN1 " in text else Finding("unknown", SAID["unknown"])


def check_signed(text: str, key: str, now: datetime) -> tuple[str, ...]:
    """Return the codes of the notices in a text that bear a signature by `key`, with nothing else needed.

    A notice ends with its code, and the line `HFN1 valid-until signature` follows. Empty: there is none that
    is genuine, or one of them is not. Raises: `PublicKeyInvalid`.
    """
    lines = [line.strip(" \t>") for line in unicodedata.normalize("NFKC", text[:TEXT_CHARS_MAX]).splitlines()]
    lines = [line for line in lines if line]
    found: list[str] = []
    for end, line in enumerate(lines):
        proof = _PROOF.fullmatch(line)
        codes = _CODE.findall(lines[end - 1].upper()) if proof and end else []
        if proof is None:
            continue
        until = datetime.fromisoformat(proof[1])
        code = "HF-{}-{}".format(*codes[-1]) if codes else ""
        if not code or until < now or not _signed(lines[:end], code, until, proof[2], key):
            return ()
        found.append(code)
    return tuple(found)


def _signed(lines: list[str], code: str, until: datetime, signature: str, key: str) -> bool:
    return any(
        verify_text(path_of(code), until, digest_of("\n".join(lines[start:])).encode(), signature, key)
        for start in range(max(0, len(lines) - _LINES_MAX), len(lines))
    )


def _has_words(text: str, code: str, digests: frozenset[str]) -> bool:
    """Tell whether the lines of the notice end with its code somewhere in `text`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    plain = code.replace("-", "")
    ends = [end for end, line in enumerate(lines, 1) if plain in line.upper().replace("-", "")]
    return any(
        digest_of("\n".join(lines[start:end])) in digests
        for end in ends[:_CODES_MAX]
        for start in range(max(0, end - _LINES_MAX), end)
    )


def _foreign(text: str, official: Official) -> tuple[str, ...]:
    """Return the links, addresses and numbers in `text` that are not ours."""
    found = []
    for link in _LINK.findall(text):
        host = _host(link)
        if not any(host == domain or host.endswith("." + domain) for domain in official.domains):
            found.append(link)
    ours = {email.casefold() for email in official.emails}
    found += [email for email in _EMAIL.findall(text) if email.casefold() not in ours]
    numbers = {_digits(phone) for phone in official.phones}
    found += [p for p in _PHONE.findall(_without_names(text)) if _digits(p) not in numbers and not _a_date(p)]
    return tuple(found)


def _host(link: str) -> str:
    try:
        return urlsplit(link if "://" in link else f"//{link}").hostname or ""
    except ValueError:
        return ""


def _without_names(text: str) -> str:
    return _CODE.sub(" ", _EMAIL.sub(" ", _LINK.sub(" ", text)))


def _digits(text: str) -> str:
    return "".join(each for each in text if each.isdigit())


def _a_date(text: str) -> bool:
    return re.match(r"20\d\d-\d\d-\d\d", text) is not None

"""Documents: they resolve, they are shaped as agreed, and what can be checked against the code is."""

from __future__ import annotations

import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import ROOT

_SKIPPED = {".git", ".venv", ".tools", "build", "dist", "node_modules", "__pycache__", "vendor"}
_FENCE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *$", re.MULTILINE)
_ADR_SECTIONS = ["Status", "Context", "Decision", "Consequences"]
_ADR_WORDS_MAX = 500
_FRAGMENT = re.compile(r"^[a-z0-9][a-z0-9-]*\.(added|changed|deprecated|fixed|removed|security)\.md$")

HOSTS = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "registry." + "npmjs.org",
    "registry." + "yarnpkg.com",
    "crates" + ".io",
]
PATHS = ["/wo" + "rk/", "/ro" + "ot/"]


def texts() -> Iterator[tuple[Path, str]]:
    """Return every text file of the project."""
    stack = [ROOT]
    while stack:
        for path in sorted(stack.pop().iterdir()):
            if (
                path.name in _SKIPPED
                or path.name.endswith(("_cache", ".egg-info"))
                or path.name == ".hypothesis"
            ):
                continue
            if path.is_dir():
                stack.append(path)
            elif path.stat().st_size < 2_000_000:
                try:
                    yield path, path.read_text()
                except UnicodeDecodeError:
                    continue


def documents() -> list[Path]:
    return [path for path, _ in texts() if path.suffix == ".md" and "changelog.d" not in path.parts]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(text: str) -> set[str]:
    """Return the anchors that a forge makes of the headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for _, heading in headings(text)}


def headings(text: str) -> list[tuple[str, str]]:
    return _HEADING.findall(_FENCE.sub("", text))


def forbidden(text: str) -> list[str]:
    """Return what must not be written down: hosts of package registries, paths of one machine."""
    return [word for word in (*HOSTS, *PATHS) if word in text]


def dead_links(path: Path, text: str) -> list[str]:
    dead = []
    for target in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"^[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = path if not file else (path.parent / file)
        if not there.exists() or (
            anchor and there.suffix == ".md" and anchor not in anchors(there.read_text())
        ):
            dead.append(target)
    return dead


def adr_faults(text: str) -> list[str]:
    faults = []
    sections = [title for level, title in headings(text) if level == "##"]
    if sections != _ADR_SECTIONS:
        faults.append(f"its sections are {sections}")
    if len(text.split()) > _ADR_WORDS_MAX:
        faults.append(f"it has {len(text.split())} words: more than a page")
    return faults


def test_every_document_has_exactly_one_title() -> None:
    assert documents()
    titles = {
        named(path): [h for level, h in headings(path.read_text()) if level == "#"] for path in documents()
    }
    assert {name: found for name, found in titles.items() if len(found) != 1} == {}


def test_every_link_between_documents_resolves() -> None:
    dead = {named(path): dead_links(path, path.read_text()) for path in documents()}
    assert {name: links for name, links in dead.items() if links} == {}


def test_a_dead_link_or_anchor_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "# A page\n\n[a](#a-page) [b](#nowhere) [c](missing.md) [d](page.md#a-page) [e](https://example.org)\n"
    page.write_text(text)
    assert dead_links(page, text) == ["#nowhere", "missing.md"]


def test_no_file_names_a_package_registry_or_a_path_of_one_machine() -> None:
    found = {named(path): words for path, text in texts() if (words := forbidden(text))}
    assert found == {}


@pytest.mark.parametrize("word", [*HOSTS, *PATHS])
def test_a_forbidden_word_is_seen(word: str) -> None:
    assert forbidden(f"fetched from {word}somewhere") == [word]


def test_every_decision_record_is_numbered_in_order_shaped_alike_and_at_most_a_page() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [path.name[:5] for path in records] == [f"{number:04}-" for number in range(1, len(records) + 1)]
    assert {path.name: faults for path in records if (faults := adr_faults(path.read_text()))} == {}


def test_a_decision_record_without_consequences_or_end_is_seen() -> None:
    assert adr_faults("# 1. X\n\n## Status\n\n## Context\n\n## Decision\n") != []
    whole = "# 1. X\n\n## Status\n\n## Context\n\n## Decision\n\n## Consequences\n"
    assert adr_faults(whole) == []
    assert adr_faults(whole + "word " * _ADR_WORDS_MAX) != []


def test_changelog_fragments_are_named_for_what_they_tell() -> None:
    folder = ROOT / "changelog.d"
    fragments = [path.name for path in folder.iterdir() if path.name not in ("README.md", ".gitkeep")]
    assert [name for name in fragments if not _FRAGMENT.match(name)] == []
    assert _FRAGMENT.match("routing-by-evidence.added.md")
    assert not _FRAGMENT.match("Routing.md")


@pytest.mark.parametrize("page", ["limits.md", "errors.md", "metrics.md"])
def test_a_reference_page_that_is_made_from_the_code_says_what_the_code_says(page: str) -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "reference"))["PAGES"][page]()
    kept = (ROOT / "docs" / "reference" / page).read_text()
    assert kept == made, f"docs/reference/{page} is old: run `make reference`"


def test_every_bound_says_why() -> None:
    bounds = runpy.run_path(str(ROOT / "scripts" / "reference"))["bounds"]()
    assert [name for bound in bounds if not bound.reason for name in bound.names] == []


def test_every_dependency_is_pinned_with_its_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=~! ]", line, maxsplit=1)[0].lower() for line in wanted}
    pins = (ROOT / "requirements.txt").read_text()
    pinned = set(
        re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==\S+.*?\\\n\s+--hash=sha256:", pins, re.MULTILINE)
    )
    assert names - pinned == set()

"""The catalogue against what pages say. `python -m tests.support.catalogue` adds what is missing to it."""

from __future__ import annotations

from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

import holdfast.web
from holdfast.web.locale import DOMAIN, LOCALES, po_file

WEB = Path(holdfast.web.__file__).parent
DEMO = WEB.parent / "flows" / "demo.py"
KEYWORDS = {"_": None, "gettext": None, "N_": None, "say": None}


def said() -> Catalog:
    """Return every text that pages mark for translation."""
    found = Catalog(domain=DOMAIN)
    methods = [("**.py", "python"), ("templates/**.html", "jinja2")]
    options = {
        "templates/**.html": {"newstyle_gettext": "true", "trim_blocks": "true", "lstrip_blocks": "true"}
    }
    extracted = extract_from_dir(WEB, methods, options, KEYWORDS)
    for file, line, message, _comments, context in extracted:
        found.add(message, locations=[(f"src/holdfast/web/{file}", line)], context=context)
    return found


def written(tag: str) -> Catalog:
    """Return the catalogue of a language as it is in the tree."""
    path = po_file(tag)
    if not path.exists():
        return Catalog(locale=LOCALES[tag], domain=DOMAIN)
    with path.open("rb") as file:
        return read_po(file, locale=LOCALES[tag], domain=DOMAIN)


def main() -> None:
    for tag in LOCALES:
        if tag == "en":
            continue
        catalogue = written(tag)
        catalogue.update(said(), no_fuzzy_matching=True)
        catalogue.obsolete.clear()
        with po_file(tag).open("wb") as file:
            write_po(file, catalogue, width=120, omit_header=False, sort_by_file=False, no_location=True)
        print(f"{po_file(tag)}: {sum(1 for m in catalogue if m.id and not m.string)} without translation")


if __name__ == "__main__":
    main()

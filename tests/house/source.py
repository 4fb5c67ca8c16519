"""Reading the project's own code: files, syntax trees, and what the house rules look for in them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "holdfast"


@dataclass(frozen=True, slots=True)
class Module:
    """A file of the package: `name` is its path from the package, as in `domains/ledger/model.py`."""

    name: str
    text: str
    tree: ast.Module


@dataclass(frozen=True, slots=True)
class Finding:
    """A place that breaks a rule."""

    name: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.name}:{self.line}: {self.what}"


Check = Callable[[Module], Iterator[Finding]]


def module(text: str, name: str = "flows/example.py") -> Module:
    """Return a module made of `text`, to show that a check sees what it should."""
    return Module(name, text, ast.parse(text))


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of the package."""
    paths = sorted(SRC.rglob("*.py"))
    return tuple(module(path.read_text(), path.relative_to(SRC).as_posix()) for path in paths)


def findings(check: Check) -> list[str]:
    """Return what `check` finds in the whole package."""
    return [str(finding) for one in modules() for finding in check(one)]


@dataclass(frozen=True, slots=True)
class Text:
    """A string in the code that is no docstring."""

    value: str
    lineno: int


def strings(tree: ast.Module) -> Iterator[Text]:
    """Return every string constant but docstrings (of modules, classes, functions and attributes)."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield Text(node.value, node.lineno)


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` for such an expression, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""

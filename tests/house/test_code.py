"""What the code must not contain: each check is shown a violation, and finds none in the package."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from typing import TypeGuard

import pytest

from tests.house.source import SRC, Check, Finding, Module, dotted, findings, module, modules, strings

_SQL = re.compile(
    r"^\s*(select\b.+\bfrom\b|select\s+\w+\(|insert\s+into\b|update\s+\w+(\.\w+)?\s+(as\s+\w+\s+)?set\b"
    r"|delete\s+from\b|with\s+\w+.*\bas\s*(not\s+materialized\s+|materialized\s+)?\("
    r"|(create|alter|drop)\s+(table|index|schema|database)\b)",
    re.IGNORECASE | re.DOTALL,
)
_STORE = re.compile(r"^(platform/|(domains/\w+|sandbox|status|status/subscriptions)/store)")
_CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "datetime.datetime.now",
    "date.today",
}
_CLOCK_READERS = re.compile(r"^(base/clock\.py|platform/|cli/|drills/|sandbox/)")
"""Machinery that runs and measures processes reads the machine's clock; domains, flows and edges do not."""
_FILE_LINES_MAX = 500
_FUNCTION_LINES_MAX = 60
_CHANCE = {
    "random.random",
    "random.randint",
    "random.choice",
    "random.shuffle",
    "random.uniform",
    "uuid.uuid4",
}


def sql_outside_stores(one: Module) -> Iterator[Finding]:
    if _STORE.match(one.name):
        return
    for text in strings(one.tree):
        if _SQL.match(text.value):
            yield Finding(one.name, text.lineno, f"SQL outside a store: {text.value.strip()[:60]!r}")


def sql_of_another_domain(one: Module) -> Iterator[Finding]:
    match = re.match(r"domains/(\w+)/store", one.name)
    if not match:
        return
    others = {path.name for path in (SRC / "domains").iterdir() if path.is_dir()} - {match[1], "__pycache__"}
    pattern = re.compile(rf"\b(from|join|into|update)\s+({'|'.join(sorted(others))})\.\w", re.IGNORECASE)
    for text in strings(one.tree):
        for found in pattern.finditer(text.value):
            yield Finding(one.name, text.lineno, f"SQL names another domain's table: {found[0]!r}")


def floats_on_amounts(one: Module) -> Iterator[Finding]:
    for node in ast.walk(one.tree):
        if isinstance(node, ast.BinOp):
            sides = [node.left, node.right]
            amount = any(_is_amount(side) for side in sides)
            if amount and (isinstance(node.op, ast.Div) or any(_is_float(side) for side in sides)):
                yield Finding(one.name, node.lineno, f"a float meets an amount: {ast.unparse(node)}")
        elif isinstance(node, ast.Call) and dotted(node.func) in ("float", "round"):
            if any(_is_amount(argument) for argument in node.args):
                yield Finding(one.name, node.lineno, f"an amount becomes a float: {ast.unparse(node)}")
        elif isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            name = node.arg if isinstance(node, ast.arg) else dotted(node.target)
            if name.endswith("_minor") and "float" in ast.unparse(node.annotation):
                yield Finding(one.name, node.lineno, f"{name} is declared a float")


def _is_amount(node: ast.expr) -> bool:
    return dotted(node).endswith("minor")


def _is_float(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, float)


def clocks(one: Module) -> Iterator[Finding]:
    if _CLOCK_READERS.match(one.name):
        return
    for node in ast.walk(one.tree):
        if isinstance(node, ast.Attribute) and dotted(node) in _CLOCKS:
            yield Finding(one.name, node.lineno, f"{dotted(node)} outside base/clock.py")
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield Finding(one.name, node.lineno, "a clock imported from time")


def imported(one: Module) -> Iterator[tuple[int, str]]:
    """Return the line and the full name of each module that is imported."""
    for node in ast.walk(one.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def chance_in_domains(one: Module) -> Iterator[Finding]:
    named = {name for node in ast.walk(one.tree) if isinstance(node, ast.Import) for name in _names(node)}
    if not one.name.startswith(("domains/", "flows/")) or not named & {"random", "uuid"}:
        return
    for node in ast.walk(one.tree):
        if isinstance(node, ast.Attribute) and dotted(node) in _CHANCE:
            yield Finding(one.name, node.lineno, f"{dotted(node)}: chance must be handed in")


def _names(node: ast.Import) -> list[str]:
    return [alias.name for alias in node.names]


def prints(one: Module) -> Iterator[Finding]:
    if one.name.startswith("cli/") or one.name == "__main__.py":
        return
    for node in ast.walk(one.tree):
        if isinstance(node, ast.Call) and dotted(node.func) in ("print", "sys.stdout.write"):
            yield Finding(one.name, node.lineno, "print outside cli")


def missing_docstrings(one: Module) -> Iterator[Finding]:
    if one.tree.body and not ast.get_docstring(one.tree):
        yield Finding(one.name, 1, "a module without a docstring")


def third_party_in_base(one: Module) -> Iterator[Finding]:
    if not one.name.startswith("base/"):
        return
    for line, name in imported(one):
        top = name.partition(".")[0]
        if top != "holdfast" and top not in sys.stdlib_module_names:
            yield Finding(one.name, line, f"base imports {top}, which is not the standard library")


def unfinished(one: Module) -> Iterator[Finding]:
    for number, line in enumerate(one.text.splitlines(), 1):
        if re.search(r"#.*\b(TODO|FIXME|XXX|HACK)\b|\bNotImplementedError\b", line):
            yield Finding(one.name, number, "unfinished work")


def too_long(one: Module) -> Iterator[Finding]:
    if one.text.count("\n") > _FILE_LINES_MAX:
        yield Finding(one.name, 1, f"a file of more than {_FILE_LINES_MAX} lines")
    for node in ast.walk(one.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > _FUNCTION_LINES_MAX:
                yield Finding(one.name, node.lineno, f"{node.name} has {lines} lines")


def swallowed(one: Module) -> Iterator[Finding]:
    for node in ast.walk(one.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        everything = node.type is None or dotted(node.type) == "BaseException"
        if everything and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            yield Finding(one.name, node.lineno, "catches everything and does not raise it again")


VIOLATIONS: list[tuple[Check, str, str]] = [
    (sql_outside_stores, "flows/example.py", 'QUERY = "select id from payments.payments where id = %s"'),
    (sql_outside_stores, "domains/ledger/operations.py", 'QUERY = "insert into ledger.transfers values (1)"'),
    (sql_outside_stores, "api/example.py", 'QUERY = "with a as (select 1) select * from a"'),
    (sql_outside_stores, "api/example.py", 'QUERY = f"update ledger.accounts set x = {1}"'),
    (sql_of_another_domain, "domains/payments/store.py", 'QUERY = "select 1 from ledger.transfers"'),
    (floats_on_amounts, "flows/example.py", "x = amount_minor / 2"),
    (floats_on_amounts, "flows/example.py", "x = payment.amount_minor * 0.5"),
    (floats_on_amounts, "flows/example.py", "x = float(balance_minor)"),
    (floats_on_amounts, "flows/example.py", "def f(fee_minor: float) -> None: ..."),
    (clocks, "domains/ledger/operations.py", "import time\nx = time.time()"),
    (clocks, "flows/example.py", "from datetime import datetime\nx = datetime.now()"),
    (clocks, "flows/example.py", "from time import monotonic"),
    (chance_in_domains, "flows/example.py", "import random\nx = random.random()"),
    (prints, "flows/example.py", 'print("hello")'),
    (missing_docstrings, "flows/example.py", "x = 1"),
    (third_party_in_base, "base/example.py", "import psycopg"),
    (third_party_in_base, "base/example.py", "from litestar import Litestar"),
    (unfinished, "flows/example.py", "x = 1  # TO" + "DO: more"),
    (unfinished, "flows/example.py", "raise NotImplemented" + "Error"),
    (too_long, "flows/example.py", "x = 1\n" * 501),
    (too_long, "flows/example.py", "def f():\n" + "    x = 1\n" * 60),
    (swallowed, "flows/example.py", "try:\n    x = 1\nexcept:\n    pass"),
    (swallowed, "flows/example.py", "try:\n    x = 1\nexcept BaseException:\n    pass"),
]
CHECKS = sorted({check for check, _, _ in VIOLATIONS}, key=lambda check: check.__name__)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_is_free_of(check: Check) -> None:
    assert findings(check) == []


@pytest.mark.parametrize(
    ("check", "name", "text"), VIOLATIONS, ids=[f"{c.__name__}-{i}" for i, (c, _, _) in enumerate(VIOLATIONS)]
)
def test_a_violation_is_seen(check: Check, name: str, text: str) -> None:
    assert list(check(module(text, name)))


ALLOWED: list[tuple[Check, str, str]] = [
    (sql_outside_stores, "domains/ledger/store/posting.py", 'QUERY = "select id from ledger.transfers"'),
    (sql_outside_stores, "flows/example.py", '"""Select a rail from those that are offered."""'),
    (floats_on_amounts, "flows/example.py", "x = amount_minor // 2 + len(rows) / 2"),
    (clocks, "base/clock.py", "import time\nx = time.monotonic()"),
    (swallowed, "flows/example.py", "try:\n    x = 1\nexcept BaseException:\n    raise"),
]


@pytest.mark.parametrize(("check", "name", "text"), ALLOWED)
def test_what_is_allowed_is_let_pass(check: Check, name: str, text: str) -> None:
    assert list(check(module(text, name))) == []


def test_every_folder_with_code_is_a_package_so_that_the_contracts_see_it() -> None:
    folders = {path.parent for path in SRC.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_domain_says_at_its_door_what_it_owns_and_what_it_needs() -> None:
    domains = [path.parent.name for path in (SRC / "domains").glob("*/model.py")]
    assert domains
    doors = {one.name: ast.get_docstring(one.tree) or "" for one in modules() if one.name.count("/") == 2}
    lacking = {
        domain: missing
        for domain in domains
        if (missing := [word for word in _DOOR if word not in doors.get(f"domains/{domain}/__init__.py", "")])
    }
    assert lacking == {}


_DOOR = ("Owns:", "Invariants:", "Tables:", "Announces:", "Needs:")


def test_every_bound_bounds_something() -> None:
    limits = next(one for one in modules() if one.name == "base/limits.py")
    names = [
        node.target.id for node in limits.tree.body if isinstance(node, ast.AnnAssign) and _named(node.target)
    ]
    used = " ".join(one.text for one in modules() if one is not limits)
    assert names
    assert [name for name in names if not re.search(rf"\b{name}\b", used)] == []


def _named(node: ast.expr) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name)

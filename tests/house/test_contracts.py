"""The import contracts hold, and each of them catches what it forbids."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.house.source import ROOT, SRC

LINT = Path(sys.executable).parent / "lint-imports"


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run the contracts on the package that lies in `folder`."""
    chosen = [argument for contract in contracts for argument in ("--contract", contract)]
    return subprocess.run(
        [LINT, "--config", ROOT / ".importlinter", "--no-cache", *chosen],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    ignored = shutil.ignore_patterns("__pycache__", "static", "templates", "*.sql", "*.toml")
    shutil.copytree(SRC, folder / "holdfast", ignore=ignored)
    return folder


def test_the_code_keeps_every_contract(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


IMPORTS = [
    pytest.param(
        "storeys",
        "platform/intruder.py",
        "from holdfast.flows import pay",
        "holdfast.platform.intruder -> holdfast.flows",
        id="platform may not import a flow",
    ),
    pytest.param(
        "storeys",
        "flows/intruder.py",
        "import holdfast.boot",
        "holdfast.flows.intruder -> holdfast.boot",
        id="a flow may not import the wiring",
    ),
    pytest.param(
        "storeys",
        "domains/payments/rules/intruder.py",
        "from holdfast.adapters import rails",
        "holdfast.domains.payments.rules.intruder -> holdfast.adapters.rails",
        id="a domain may not import an adapter",
    ),
    pytest.param(
        "storeys",
        "adapters/intruder.py",
        "from holdfast.flows import pay",
        "holdfast.adapters.intruder -> holdfast.flows",
        id="an adapter may not import a flow",
    ),
    pytest.param(
        "storeys",
        "base/intruder.py",
        "import holdfast.platform",
        "holdfast.base.intruder -> holdfast.platform",
        id="base may not import anything above it",
    ),
    pytest.param(
        "domains",
        "domains/payments/rules/intruder.py",
        "from holdfast.domains.ledger import model",
        "holdfast.domains.payments.rules.intruder -> holdfast.domains.ledger.model",
        id="a domain may not import another",
    ),
    pytest.param(
        "rooms",
        "domains/ledger/errors.py",
        "from holdfast.domains.ledger import model",
        "holdfast.domains.ledger.errors -> holdfast.domains.ledger.model",
        id="errors may not import the model",
    ),
    pytest.param(
        "rooms",
        "domains/payments/rules/intruder.py",
        "from holdfast.domains.payments import store",
        "holdfast.domains.payments.rules.intruder -> holdfast.domains.payments.store",
        id="rules may not import the store",
    ),
    pytest.param(
        "doors",
        "adapters/intruder.py",
        "from holdfast.domains.payments import store",
        "holdfast.adapters.intruder -> holdfast.domains.payments.store",
        id="an adapter may not reach into a store",
    ),
    pytest.param(
        "doors",
        "api/intruder.py",
        "from holdfast.domains.webhooks.store import anything",
        "holdfast.api.intruder -> holdfast.domains.webhooks.store",
        id="an endpoint may not reach into a store",
    ),
    pytest.param(
        "sql",
        "flows/intruder.py",
        "import psycopg",
        "holdfast.flows.intruder -> psycopg",
        id="a flow may not speak to the database",
    ),
    pytest.param(
        "sql",
        "domains/payments/rules/intruder.py",
        "from psycopg import sql",
        "holdfast.domains.payments.rules.intruder -> psycopg",
        id="a rule may not speak to the database",
    ),
    pytest.param(
        "web",
        "flows/intruder.py",
        "import litestar",
        "holdfast.flows.intruder -> litestar",
        id="a flow may not know the web framework",
    ),
    pytest.param(
        "pages",
        "domains/payments/rules/intruder.py",
        "from jinja2 import Template",
        "holdfast.domains.payments.rules.intruder -> jinja2",
        id="a domain may not render pages",
    ),
    pytest.param(
        "outlives",
        "status/intruder.py",
        "from holdfast.domains.ledger import model",
        "holdfast.status.intruder -> holdfast.domains.ledger",
        id="the status service may not know the wallet",
    ),
    pytest.param(
        "outlives",
        "status/intruder.py",
        "from holdfast.platform import outbox",
        "holdfast.status.intruder -> holdfast.platform.outbox",
        id="the status service may not reach the database by way of others",
    ),
    pytest.param(
        "proof",
        "domains/ledger/verify/intruder.py",
        "from holdfast.domains.ledger import rules",
        "holdfast.domains.ledger.verify.intruder -> holdfast.domains.ledger.rules",
        id="the proof may not use the rules of posting",
    ),
    pytest.param(
        "pure",
        "domains/payments/rules/intruder.py",
        "import asyncio",
        "holdfast.domains.payments.rules.intruder -> asyncio",
        id="a rule may not wait",
    ),
    pytest.param(
        "pure",
        "domains/ledger/model.py",
        "import time",
        "holdfast.domains.ledger.model -> time",
        id="a model may not read the clock",
    ),
]
STRAYS = [
    pytest.param("storeys", "attic.py", "", "attic", id="every part of the package has its storey"),
    pytest.param(
        "rooms",
        "domains/ledger/helpers.py",
        "",
        "holdfast.domains.ledger.helpers",
        id="every file of a domain has its room",
    ),
]


def put(copy: Path, violations: list[tuple[str, str]]) -> Callable[[], None]:
    """Write lines into files of the copy; return what takes them out again."""
    before = {
        file: path.read_text() if (path := copy / "holdfast" / file).exists() else None
        for file, _ in violations
    }
    for file, line in violations:
        path = copy / "holdfast" / file
        path.write_text(f"{path.read_text() if path.exists() else ''}\n{line}\n")

    def restore() -> None:
        for file, text in before.items():
            if text is None:
                (copy / "holdfast" / file).unlink()
            else:
                (copy / "holdfast" / file).write_text(text)

    return restore


@pytest.fixture(scope="module")
def verdicts(copy: Path) -> dict[str, str]:
    """What each contract says when all forbidden imports are there at once."""
    restore = put(copy, [(file, line) for _, file, line, _ in map(_values, IMPORTS)])
    try:
        return {contract: lint(copy, contract).stdout for contract in {_values(p)[0] for p in IMPORTS}}
    finally:
        restore()


def _values(param: ParameterSet) -> tuple[str, str, str, str]:
    contract, file, line, seen = map(str, param.values)
    return contract, file, line, seen


@pytest.mark.parametrize(("contract", "file", "line", "seen"), IMPORTS)
def test_a_forbidden_import_is_caught(
    verdicts: dict[str, str], contract: str, file: str, line: str, seen: str
) -> None:
    assert "BROKEN" in verdicts[contract]
    assert seen in verdicts[contract], f"nobody minded `{line}` in {file}"


@pytest.mark.parametrize(("contract", "file", "line", "seen"), STRAYS)
def test_a_file_without_a_place_is_caught(copy: Path, contract: str, file: str, line: str, seen: str) -> None:
    restore = put(copy, [(file, line)])
    try:
        done = lint(copy, contract)
    finally:
        restore()
    assert done.returncode != 0
    assert seen in done.stdout


def test_every_contract_has_a_violation_that_proves_it() -> None:
    proven = {str(param.values[0]) for param in (*IMPORTS, *STRAYS)}
    lines = (ROOT / ".importlinter").read_text().splitlines()
    declared = {
        line.split(":")[2].rstrip("]") for line in lines if line.startswith("[importlinter:contract:")
    }
    assert declared == proven

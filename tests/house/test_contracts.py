"""The import contracts hold, and each of them catches what it forbids."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


VIOLATIONS = [
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
    pytest.param("storeys", "attic.py", "", "attic", id="every part of the package has its storey"),
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
        "rooms",
        "domains/ledger/helpers.py",
        "",
        "holdfast.domains.ledger.helpers",
        id="every file of a domain has its room",
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


@pytest.mark.parametrize(("contract", "file", "line", "seen"), VIOLATIONS)
def test_a_violation_is_caught(copy: Path, contract: str, file: str, line: str, seen: str) -> None:
    path = copy / "holdfast" / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        done = lint(copy, contract)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
    assert done.returncode != 0, f"nobody minded `{line}` in {file}"
    assert seen in done.stdout, done.stdout


def test_every_contract_has_a_violation_that_proves_it() -> None:
    proven = {str(param.values[0]) for param in VIOLATIONS}
    lines = (ROOT / ".importlinter").read_text().splitlines()
    declared = {
        line.split(":")[2].rstrip("]") for line in lines if line.startswith("[importlinter:contract:")
    }
    assert declared == proven

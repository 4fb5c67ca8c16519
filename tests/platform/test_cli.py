"""The command line: readable, quick to help, and described as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import __version__, cli
from holdfast.cli import COMMANDS
from holdfast.cli.reference import render

ROOT = Path(__file__).parents[2]
SHARED = {
    "__init__", "options", "machine", "reference", "transfer_lines", "transfer_state", "status_call",
    "status_plan",
}  # fmt: skip


def holdfast(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
    )


def test_help_lists_every_command_with_what_it_is_for_and_imports_none_of_them() -> None:
    shown = holdfast("--help")
    assert shown.returncode == 0
    for name, words in COMMANDS.items():
        assert re.search(rf"^  {name}\s+{re.escape(words)}$", shown.stdout, re.MULTILINE)
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, holdfast.cli; print({'psycopg', 'litestar'} & {*sys.modules})"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert loaded.stdout == "set()\n"


def test_every_file_of_a_command_is_listed_and_every_listed_command_has_a_file() -> None:
    files = {file.stem for file in Path(cli.__file__).parent.glob("*.py")}
    assert files - SHARED == set(COMMANDS)


def test_the_version_is_told() -> None:
    assert holdfast("--version").stdout == f"holdfast, version {__version__}\n"


def test_the_reference_says_what_the_commands_say() -> None:
    assert (ROOT / "docs" / "reference" / "cli.md").read_text() == render(), "run scripts/cli-reference"


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("serve",), {}, "No database: none runs in /nonexistent/.local/share/holdfast."),
        (("worker",), {"XDG_DATA_HOME": "/no"}, "none runs in /no/holdfast. Start `holdfast up` there"),
        (("migrate",), {"HOLDFAST_PROT": "1"}, "did you mean HOLDFAST_PORT?"),
        (("up",), {"HOLDFAST_MODE": "production"}, "production needs a PostgreSQL of its own"),
        (("config",), {"HOLDFAST_CONFIG": "/none.toml"}, "/none.toml: No such file or directory."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_the_remedy_and_no_traceback(
    arguments: tuple[str, ...], environment: dict[str, str], says: str
) -> None:
    where = {"XDG_DATA_HOME": "/nonexistent/.local/share"} | environment
    failed = holdfast(*arguments, **where)
    assert failed.returncode == 1
    assert says in failed.stderr
    assert "Traceback" not in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_the_configuration_is_shown_with_secrets_masked(tmp_path: Path) -> None:
    shown = holdfast(
        "config", "--data", str(tmp_path), HOLDFAST_DSN="postgresql://u:hunter22@h/d", HOLDFAST_PORT="8555"
    )
    assert "port = 8555\n" in shown.stdout
    assert f"data_dir = {tmp_path}\n" in shown.stdout
    assert "dsn = Secret(***)\n" in shown.stdout
    assert "rail north: stripe at http://127.0.0.1:8401/north\n" in shown.stdout

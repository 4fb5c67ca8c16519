"""`holdfast up` for real: as root and as nobody, refused with the remedy, restarted, stopped, killed."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import Up, alive, free_port, name_of
from tests.support.waiting import until


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may walk through."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-up-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def up(place: Path) -> Iterator[Up]:
    """A running Holdfast."""
    it = Up(place / "data")
    try:
        it.until("Open http://127.0.0.1:")
        yield it
    finally:
        it.end()


def test_one_command_starts_everything_says_each_step_on_one_line_and_stops_it_all_on_ctrl_c(up: Up) -> None:
    assert up.get("/readyz") == 200
    for who in ("database", "schema", "sandbox", "server", "worker"):
        assert re.search(rf"^\d\d:\d\d:\d\d  {who} ", up.said, re.MULTILINE), up.said
    assert "\x1b" not in up.said, "colours belong on a terminal only"
    family = up.processes()
    assert len(family) > 5
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(20) == 0
    assert re.search(r"stopped \(\d+\.\d s\)", up.said)
    assert [pid for pid in family if alive(pid)] == []


def test_the_status_service_starts_first_and_tries_the_wallet_from_outside(place: Path) -> None:
    port = free_port()
    it = Up(place / "data", "--status-page-port", str(port))
    try:
        it.until("Open http://127.0.0.1:")
        assert it.said.index(" status ") < it.said.index(" database ")
        component = 'holdfast_status_component{component="ledger",standing="operational"} 1'

        def read(path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())

        assert component in read("/metrics")
        until(
            lambda: '"measured":"operational"' in read("/api/v2/components.json"), "probes reach the wallet"
        )
    finally:
        it.end()


def test_when_the_parent_is_killed_nothing_is_left_and_it_starts_again(up: Up, place: Path) -> None:
    family = set(up.processes())
    database = {pid for pid in family if name_of(pid) == "postgres"}
    ours = family - database
    up.process.kill()
    up.process.wait()
    until(lambda: not any(map(alive, ours)), "every child has gone", within_s=20)
    # It ends cleanly, with a checkpoint, for as long as the disk takes.
    until(lambda: not any(map(alive, database)), "the database has gone", within_s=90)
    again = Up(place / "data")
    try:
        again.until("Open http://127.0.0.1:")
        assert again.get("/readyz") == 200
        assert "schema    up to date" in again.said
    finally:
        again.end()


def test_what_falls_is_started_again_and_the_page_answers(up: Up) -> None:
    os.kill(up.pid_of("serve"), signal.SIGKILL)
    up.until(r"server    was stopped by SIGKILL; starting again in 0\.2 s")
    os.kill(up.pid_of("worker"), signal.SIGKILL)
    up.until(r"worker    was stopped by SIGKILL; starting again in 0\.2 s")
    up.until("server    ready again")
    up.until("worker    ready again")
    postgres = int(
        (up.output.with_suffix("") / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0]
    )
    os.kill(postgres, signal.SIGKILL)
    up.until(r"database  ready again")

    def answers() -> bool:
        try:
            return up.get("/readyz") == 200
        except OSError:
            return False

    until(answers, "the server has found the database again", within_s=60)


def test_a_second_one_on_the_same_folder_or_port_is_refused_with_the_remedy(up: Up, place: Path) -> None:
    second = Up(place / "data")
    assert second.process.wait(60) == 1
    assert f"in use by another Holdfast (process {up.process.pid})" in second.said
    assert "--data" in second.said
    third = subprocess.run(
        [sys.executable, "-m", "holdfast", "up", "--port", str(up.port), "--data", str(place / "other")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert third.returncode == 1
    assert third.stderr == (
        f"holdfast: Port {up.port} on 127.0.0.1 is taken by another program. "
        "Stop it, or choose another port with --port.\n"
    )
    assert up.get("/readyz") == 200


def test_a_user_without_any_rights_runs_it_too(place: Path) -> None:
    """Started as that user by root; any other tester is one already."""
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    home = place / "home"
    home.mkdir()
    if user is not None:
        os.chown(home, user, user)
    it = Up(home / "data", user=user, home=home)
    try:
        it.until("Open http://127.0.0.1:")
        assert it.get("/readyz") == 200
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in it.processes()}
        assert owners == {user if user is not None else os.geteuid()}
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(20) == 0
    finally:
        it.end()

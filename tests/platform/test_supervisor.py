"""The supervisor with real processes: order, readiness, restart, silence, stopping, last words."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.platform.supervisor import Patience, Program, ProgramNotStarted, Supervisor
from tests.support.machine import alive
from tests.support.waiting import until, until_async

READY = """
import os, time
from holdfast.platform.processes import notify
notify('READY=1')
print('up', os.getpid(), flush=True)
"""


class Ear:
    """Remembers what the supervisor says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, who: str, what: str, how: str) -> None:
        self.lines.append(f"{who} {what} ({how})")

    async def until(self, text: str, *, within_s: float = 30.0) -> None:
        async def said() -> bool:
            return any(text in line for line in self.lines)

        await until_async(said, f"it says {text!r}; it said {self.lines}", within_s=within_s)


def program(
    code: str, *, name: str = "toy", probe: str | None = None, stop_timeout_s: float = 5.0
) -> Program:
    return Program(name, (sys.executable, "-c", code), dict(os.environ), probe, stop_timeout_s=stop_timeout_s)


async def test_a_program_that_falls_is_started_again_with_growing_pauses_and_each_event_is_said(
    tmp_path: Path,
) -> None:
    ear = Ear()
    supervisor = Supervisor(logs=tmp_path, say=ear)
    await supervisor.start(program(READY + "time.sleep(600)"))
    kept = supervisor.kept[0]
    first = kept.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await ear.until("was stopped by SIGKILL; starting again in 0.2 s (bad)")
    await ear.until("ready again")
    second = kept.pid
    assert second is not None
    assert second != first
    os.kill(second, signal.SIGKILL)
    await ear.until("starting again in 0.5 s")
    await until_async(lambda: _other(kept, second), "a third one runs")
    await supervisor.stop()
    assert kept.pid is None
    assert ear.lines[0].startswith("toy ready (")


async def _other(kept: object, earlier: int) -> bool:
    pid = getattr(kept, "pid", None)
    return pid is not None and pid != earlier


async def test_a_program_that_never_starts_ends_it_all_with_its_last_words_and_no_secret(
    tmp_path: Path,
) -> None:
    supervisor = Supervisor(logs=tmp_path, say=Ear())
    with pytest.raises(ProgramNotStarted) as failed:
        await supervisor.start(program("raise SystemExit('no database at postgresql://u:hunter2@h/d')"))
    assert "The toy stopped with exit code 1 and did not start." in failed.value.message
    assert "no database at postgresql://u:***@h/d" in failed.value.message
    await supervisor.stop()


async def test_a_program_that_falls_silent_is_killed_and_started_again(tmp_path: Path) -> None:
    ear = Ear()
    supervisor = Supervisor(logs=tmp_path, say=ear, patience=Patience(silent_s=1.0, probe_every_s=0.1))
    await supervisor.start(program(READY + "time.sleep(600)"))
    await ear.until("toy has not answered for 1 s; killed")
    await ear.until("ready again")
    await supervisor.stop()


async def test_a_program_that_goes_on_saying_that_it_lives_is_left_alone(tmp_path: Path) -> None:
    ear = Ear()
    supervisor = Supervisor(logs=tmp_path, say=ear, patience=Patience(silent_s=1.0, probe_every_s=0.1))
    mark = tmp_path / "rounds"
    beat = f"""
for n in range(10_000):
    notify('WATCHDOG=1')
    time.sleep(0.1)
    open({str(mark)!r}, 'w').write(str(n))
"""
    await supervisor.start(program(READY + beat))

    async def long_enough() -> bool:
        return mark.exists() and int(mark.read_text() or "0") > 25

    await until_async(long_enough, "it ran for two and a half seconds")
    assert len(ear.lines) == 1
    await supervisor.stop()


async def test_a_web_program_is_ready_when_its_address_answers_200_and_is_probed_from_then_on(
    tmp_path: Path,
) -> None:
    ear = Ear()
    port = _free_port()
    serve = f"""
import http.server, os, sys
mark = {str(tmp_path / "broken")!r}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists(mark) else 200)
        self.send_header("content-length", "0")
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""
    supervisor = Supervisor(logs=tmp_path, say=ear, patience=Patience(silent_s=1.0, probe_every_s=0.1))
    await supervisor.start(program(serve, probe=f"http://127.0.0.1:{port}/readyz"))
    (tmp_path / "broken").touch()
    await ear.until("has not answered for 1 s; killed")
    (tmp_path / "broken").unlink()
    await ear.until("ready again")
    await supervisor.stop()


async def test_stopping_asks_first_and_insists_after_the_time_allowed(tmp_path: Path) -> None:
    ear = Ear()
    supervisor = Supervisor(logs=tmp_path, say=ear)
    polite = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))
"""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    await supervisor.start(
        program(polite + READY + "time.sleep(600)", name="polite"),
        program(deaf + READY + "time.sleep(600)", name="deaf", stop_timeout_s=0.5),
    )
    await supervisor.stop()
    assert "bye" in (tmp_path / "polite.log").read_text()
    assert [line for line in ear.lines if "did not stop" in line] == [
        "deaf did not stop within 0.5 s; killed (bad)"
    ]
    assert all(kept.pid is None for kept in supervisor.kept)


async def test_what_a_program_started_itself_ends_with_it(tmp_path: Path) -> None:
    supervisor = Supervisor(logs=tmp_path, say=Ear())
    mark = tmp_path / "grandchild"
    fork = f"""
import subprocess
open({str(mark)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid))
"""
    await supervisor.start(program(fork + READY + "time.sleep(600)"))
    grandchild = int(mark.read_text())
    assert alive(grandchild)
    await supervisor.stop()
    until(lambda: not alive(grandchild), "the grandchild is gone", within_s=5)


async def test_a_program_that_falls_is_started_again_though_what_it_started_lives_and_holds_its_pipe(
    tmp_path: Path,
) -> None:
    ear = Ear()
    supervisor = Supervisor(logs=tmp_path, say=ear)
    mark = tmp_path / "grandchild"
    fork = f"""
import subprocess
open({str(mark)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid))
"""
    await supervisor.start(program(fork + READY + "time.sleep(600)"))
    left, first = int(mark.read_text()), supervisor.kept[0].pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await ear.until("ready again")
    until(lambda: not alive(left), "nothing of the first is left")
    await supervisor.stop()


async def test_logs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.platform.supervisor.LOG_BYTES_MAX", 200_000)
    supervisor = Supervisor(logs=tmp_path, say=Ear())
    done = tmp_path / "done"
    talk = f"for _ in range(10_000): print('x' * 100)\nopen({str(done)!r}, 'w').close()\n"
    await supervisor.start(program(READY + talk + "time.sleep(600)"))

    async def written() -> bool:
        return done.exists() and (tmp_path / "toy.log.1").exists()

    await until_async(written, "a megabyte was written")
    await supervisor.stop()
    assert sum(file.stat().st_size for file in tmp_path.glob("toy.log*")) < 2 * 200_000 + 2 * 65_536


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import asyncio, os, sys
from pathlib import Path
from holdfast.platform.supervisor import Program, Supervisor
async def main():
    supervisor = Supervisor(logs=Path({str(tmp_path)!r}), say=lambda *_: None)
    toy = Program("toy", (sys.executable, "-c", {READY + "time.sleep(600)"!r}), dict(os.environ))
    await supervisor.start(toy)
    Path({str(pids)!r}).write_text(str(supervisor.kept[0].pid))
    await asyncio.sleep(600)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        child = int(until(lambda: pids.exists() and pids.read_text(), "the child is ready"))
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not alive(child), "the child is gone", within_s=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

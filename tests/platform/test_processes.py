"""What processes of one machine owe each other: ports and folders held alone, no orphans."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.platform import processes
from holdfast.platform.processes import DataFolderForeign, DataFolderInUse, PortTaken
from holdfast.platform.supervisor import ending
from tests.support.machine import alive
from tests.support.waiting import until


def listening(*, reuse_port: bool) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_that_is_taken_is_named_with_the_remedy_even_when_its_holder_would_share_it(
    reuse_port: bool,
) -> None:
    with listening(reuse_port=reuse_port) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken) as refused:
            processes.check_port("127.0.0.1", port, option="--port")
    assert refused.value.message == (
        f"Port {port} on 127.0.0.1 is taken by another program. Stop it, or choose another port with --port."
    )
    processes.check_port("127.0.0.1", port, option="--port")


def test_two_processes_cannot_hold_one_port_although_neither_listens_yet() -> None:
    with listening(reuse_port=False) as listener:
        port = listener.getsockname()[1]
    with processes.hold_port("127.0.0.1", port, option="--port"):
        other = subprocess.run(
            [sys.executable, "-c", HOLD.format(port=port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert "PortTaken" in other.stderr
    after = subprocess.run(
        [sys.executable, "-c", HOLD.format(port=port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert after.stdout == "held\n", after.stderr


HOLD = """
from holdfast.platform import processes
with processes.hold_port("127.0.0.1", {port}, option="--port"):
    print("held")
"""


def test_a_data_folder_is_used_by_one_process_at_a_time_and_free_again_when_that_is_killed(
    tmp_path: Path,
) -> None:
    program = f"""
import time
from pathlib import Path
from holdfast.platform import processes
with processes.hold_data_folder(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataFolderInUse, match=f"in use by another Holdfast \\(process {holder.pid}\\)"):
            processes.hold_data_folder(tmp_path).__enter__()
    finally:
        holder.kill()
        holder.wait()
    with processes.hold_data_folder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        (
            '{"format": 99, "made_by": "9.1.0"}',
            r"belongs to another version of Holdfast \(9\.1\.0, format 99; this is",
        ),
        ("{", "cannot be read"),
        ('{"format": "x"}', "cannot be read"),
    ],
)
def test_a_data_folder_of_another_version_is_refused_with_both_versions(
    tmp_path: Path, mark: str, says: str
) -> None:
    (tmp_path / "holdfast.json").write_text(mark)
    with pytest.raises(DataFolderForeign, match=says), processes.hold_data_folder(tmp_path):
        pass


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DataFolderForeign, match="Choose a folder of your own with --data"),
        processes.hold_data_folder(tmp_path / "file"),
    ):
        pass


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    child = tmp_path / "child.pid"
    program = f"""
import os, signal, subprocess, sys, time
from holdfast.platform.processes import die_with_parent
me = os.getpid()
child = subprocess.Popen(["sleep", "600"], preexec_fn=lambda: die_with_parent(signal.SIGTERM, parent=me))
open({str(child)!r}, "w").write(str(child.pid))
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        pid = int(until(lambda: child.exists() and child.read_text(), "the child started"))
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not alive(pid), "the child died", within_s=10)


def test_a_child_whose_parent_was_gone_before_it_could_say_so_ends_at_once() -> None:
    program = (
        "import signal; from holdfast.platform.processes import die_with_parent; "
        "die_with_parent(signal.SIGTERM, parent=1); print(1)"
    )
    late = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (late.returncode, late.stdout) == (1, b"")


def test_a_process_says_that_it_is_ready_as_systemd_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        name = f"holdfast-test-{os.getpid()}"
        ear.bind("\0" + name)
        ear.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        processes.notify("READY=1")
        assert ear.recv(100) == b"READY=1"
    processes.notify("WATCHDOG=1")  # nobody there any more: no error
    monkeypatch.delenv("NOTIFY_SOCKET")
    processes.notify("WATCHDOG=1")


def test_every_signal_has_a_name_in_the_supervisors_words() -> None:
    assert ending(-signal.SIGKILL) == "was stopped by SIGKILL"
    assert ending(-63) == "was stopped by signal 63"
    assert ending(3) == "stopped with exit code 3"


def test_a_process_that_works_in_long_turns_says_so_to_the_kernel_and_so_do_its_threads() -> None:
    code = """
import os, threading
from holdfast.platform import processes
processes.work_in_long_turns()
seen = []
thread = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0)))
thread.start()
thread.join()
print(os.sched_getscheduler(0) == seen[0] == os.SCHED_BATCH)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "True"

"""A real sandbox process for tests: `with running_sandbox(tmp_path) as sandbox: …`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 20.0


@dataclass
class Sandbox:
    """A running sandbox, and its control API."""

    folder: Path
    arguments: list[str]
    url: str = ""
    port: int = 0
    doors: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process and wait until it serves. It keeps its port from the first start on."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
        command = [sys.executable, "-c", "from holdfast.cli import main; main()", "sandbox"]
        command += ["--port", str(self.port), "--data", str(self.folder), *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment | {
            "PYTHONUNBUFFERED": "1", "HOLDFAST_DATA_DIR": str(self.folder)})  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("{"):
            raise RuntimeError(f"the sandbox did not start: {line!r}")
        said = json.loads(line)
        self.url, self.port, self.doors = said["ready"], said["port"], said["doors"]

    def stop(self) -> int:
        """Stop it in an orderly way; return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it at once."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        try:
            code = self.process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def at(self, instance: str) -> str:
        """Return the base address of an instance."""
        return f"{self.url}/{instance}"

    def control(self, method: str, path: str, body: object = None) -> Any:
        """Call the control API; return its JSON. Raises `urllib.error.HTTPError` on refusal."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/_control/{path}", data, {"content-type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def fault(self, instance: str, kind: str, **more: object) -> str:
        """Break something; return the id of the fault."""
        return str(self.control("POST", "faults", {"instance": instance, "fault": kind, **more})["id"])

    def mend(self, instance: str = "*") -> None:
        """Mend an instance, or everything."""
        self.control("DELETE", f"faults?instance={instance}")

    def reset(self, seed: int | None = None) -> None:
        """Forget everything."""
        self.control("POST", "reset", {} if seed is None else {"seed": seed})

    def hooks(self, instance: str, *urls: str) -> None:
        """Say where the webhooks of an instance go."""
        self.control("PUT", f"webhooks/{instance}", {"urls": list(urls)})

    def ledger(self, instance: str, reference: str | None = None) -> Any:
        """Return the provider's own book."""
        return self.control("GET", f"ledger/{instance}" + (f"?reference={reference}" if reference else ""))

    def kept_minor(self, instance: str, reference: str | None = None) -> int:
        """Return what the provider believes it took and did not give back."""
        return sum(row["kept_minor"] for row in self.ledger(instance, reference)["charges"])

    def held_minor(self, instance: str, reference: str | None = None) -> int:
        """Return what the provider believes it holds."""
        return sum(row["held_minor"] for row in self.ledger(instance, reference)["charges"])


@contextmanager
def running_sandbox(folder: Path, *arguments: str, webhooks: str | None = None) -> Iterator[Sandbox]:
    """Run a sandbox on a free port, its books under `folder`; stop it at the end.

    `arguments` go to `holdfast sandbox`. `webhooks` says where webhooks go (`{instance}` stands for the
    name).
    """
    hooks = ["--no-webhooks"] if webhooks is None else ["--webhooks", webhooks]
    sandbox = Sandbox(folder, [*hooks, *arguments])
    sandbox.start()
    try:
        yield sandbox
    finally:
        if sandbox.process is not None:
            sandbox.stop()

"""The tutorial's commands, run in order as they stand on the page, against a real `holdfast up`."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from tests.support.running import free_port, start, until_ready

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial" / "first-payment.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_tutorial_works_as_written() -> None:
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) >= 8
    port, sandbox_port = free_port(), free_port()
    script = "set -eu -o pipefail\n" + "\n".join(blocks)
    script = script.replace(":8400", f":{port}").replace(":8401", f":{sandbox_port}")
    with tempfile.TemporaryDirectory(prefix="holdfast-tutorial-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        program = start(
            "up",
            folder,
            {},
            "--port",
            str(port),
            "--sandbox-port",
            str(sandbox_port),
            "--status-page-port",
            "0",
        )
        try:
            until_ready(program, f"http://127.0.0.1:{port}/readyz")
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=ROOT,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": name, "HOLDFAST_DATA_DIR": name},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, (
                f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{program.said()[-3000:]}"
            )
            assert "charged once" in done.stdout
        finally:
            program.end()

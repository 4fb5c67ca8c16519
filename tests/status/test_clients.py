"""Clients of the field, unmodified, read what is published."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.status.service import service
from tests.support.waiting import until

EXPORTER = Path(sys.executable).parent / "statuspage-prometheus-exporter"


def test_the_prometheus_exporter_for_statuspage_understands_the_summary(tmp_path: Path) -> None:
    with service(tmp_path) as one:
        trouble = {
            "name": {"en": "North does not answer"},
            "body": {"en": "Cards go by another provider."},
            "components": {"north": "major_outage"},
        }
        assert one.ask("POST", "/v1/incidents", trouble, one.token("operator", "alice"))[0] == 201
        until(lambda: one.summary()["incidents"], "it is public", within_s=10)
        services = tmp_path / "services.json"
        services.write_text(
            json.dumps({"wallet": {"url": f"{one.url}/api/v2/summary.json", "name": "Wallet"}})
        )
        written = tmp_path / "statuspage.prom"
        done = subprocess.run(
            [EXPORTER],
            env={
                "PATH": os.environ["PATH"], "HOME": str(tmp_path), "RUN_MODE": "once",
                "SERVICES_JSON_PATH": str(services), "METRICS_TEXTFILE_PATH": str(written),
            },
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert written.exists(), done.stdout + done.stderr
        text = written.read_text()
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("statuspage_"))
    assert told['statuspage_service_status{service_name="Wallet"}'] == "0.0"
    state = 'statuspage_component_status{component_name="%s",service_name="Wallet"}'
    assert told[state % "Card provider North"] == told[state % "Pay by card"] == "0.0"
    assert told[state % "Pay from balance"] == "1.0"
    (incident,) = (name for name in told if name.startswith("statuspage_incident_info{"))
    for said in ('impact="critical"', 'incident_name="North does not answer"', "Card provider North"):
        assert said in incident

"""What processes count, for Prometheus. One registry per process; each process is scraped by itself."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from holdfast import __version__

REGISTRY: Final = CollectorRegistry(auto_describe=True)
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_LATENCY_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

INFO: Final = Gauge("holdfast_info", "The version that runs.", ("version",), registry=REGISTRY)
INFO.labels(__version__).set(1)

REQUESTS: Final = Histogram(
    "holdfast_http_request_seconds", "Time to answer a request.", ("route", "method", "status"),
    buckets=_LATENCY_S, registry=REGISTRY,
)  # fmt: skip
IN_FLIGHT: Final = Gauge("holdfast_http_in_flight", "Requests being answered.", registry=REGISTRY)
SHED: Final = Counter(
    "holdfast_http_shed", "Requests refused because of load.", ("reason",), registry=REGISTRY
)

EVENTS: Final = Counter(
    "holdfast_events", "Events that were followed up, each once: payments by what they came to.", ("type",),
    registry=REGISTRY,
)  # fmt: skip
DUTY_DONE: Final = Counter(
    "holdfast_worker_done", "What a worker's duties did.", ("duty",), registry=REGISTRY
)
DUTY_FAILED: Final = Counter(
    "holdfast_worker_failed", "Rounds of a duty that failed.", ("duty",), registry=REGISTRY
)
WEBHOOKS: Final = Counter(
    "holdfast_webhook_tries", "Tries of webhooks by what followed.", ("outcome",), registry=REGISTRY
)
SETTLED: Final = Counter(
    "holdfast_settlement_references", "References in rails' settlement files by what the comparison found.",
    ("rail", "found"), registry=REGISTRY,
)  # fmt: skip
OUTBOX_LAG_S: Final = Gauge(
    "holdfast_outbox_lag_seconds", "Age of the oldest event not relayed.", registry=REGISTRY
)
ALERTS: Final = Counter(
    "holdfast_alerts", "What a person should look at, by what it is.", ("what",), registry=REGISTRY
)
IN_DOUBT: Final = Gauge("holdfast_payments_in_doubt", "Payments that are not decided.", registry=REGISTRY)
IN_DOUBT_OLDEST_S: Final = Gauge(
    "holdfast_payments_in_doubt_oldest_seconds", "Age of the oldest of them.", registry=REGISTRY
)
WEBHOOKS_OWED: Final = Gauge("holdfast_webhooks_owed", "Webhook deliveries owed.", registry=REGISTRY)


def render() -> bytes:
    """Return everything counted in this process, in the text format (`CONTENT_TYPE`)."""
    return generate_latest(REGISTRY)

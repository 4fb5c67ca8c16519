"""What is counted by our own quick means reads, for Prometheus, as if its own library had counted it."""

from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from holdfast.platform import metrics

LIMITS = (0.001, 0.01, 0.1, 1.0)


def test_quick_histograms_tell_what_the_librarys_own_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    monkeypatch.setattr(metrics, "REGISTRY", ours)
    quick = metrics.QuickHistograms("answered_seconds", "Time.", ("route", "status"), LIMITS)
    slow = Histogram("answered_seconds", "Time.", ("route", "status"), buckets=LIMITS, registry=theirs)
    chance = random.Random(1)
    for _ in range(500):
        labels = (chance.choice(["/a", "/b"]), chance.choice(["200", "503"]))
        value = chance.choice([*LIMITS, chance.random() * 2])
        quick.labels(*labels).observe(value)
        slow.labels(*labels).observe(value)

    def lines(registry: CollectorRegistry) -> set[str]:
        return {line for line in generate_latest(registry).decode().splitlines() if "_created" not in line}

    assert lines(ours) == lines(theirs)


def test_a_quick_histogram_is_asked_by_all_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REGISTRY", CollectorRegistry())
    quick = metrics.QuickHistograms("answered_seconds", "Time.", ("route", "status"), LIMITS)
    with pytest.raises(ValueError, match="2 labels"):
        quick.labels("/a")

"""`make bench-publish`: from a decision to the published site, with many components and years of history.

A graph of 500 components and five years of incidents, one a day. Once the site was published, an incident
opens; what is timed is making and signing every file that changed, and changing the folder.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.report import report
from holdfast.status.board import Board, Entry, Opened, Told
from holdfast.status.graph import Graph
from holdfast.status.model import Component
from holdfast.status.notices.genuine import Official
from holdfast.status.seal import Signer
from holdfast.status.shapes import View
from holdfast.status.site import Site
from holdfast.status.target import Folder
from holdfast.status.words import Words

START = datetime(2021, 11, 27, tzinfo=UTC)
WORDS = Words("Some payments fail.", "部分支付失败。")


def _graph(components: int) -> Graph:
    rails = [Component(f"rail{n}", Words(f"Rail {n}"), "rail") for n in range(components - 50)]
    ways = [
        Component(f"way{n}", Words(f"Way {n}"), "capability", any_of=((f"rail{n}", f"rail{n + 1}"),))
        for n in range(50)
    ]
    return Graph([*ways, *rails])


def _open(board: Board, number: int, rail: int, at: datetime) -> None:
    fact = Opened(
        f"inc_{number}", f"upd_{number}", Words(f"Incident {number}"), WORDS, "technical", "investigating",
        {f"rail{rail}": "major_outage"}, at,
    )  # fmt: skip
    board.take(Entry(at, "measured", fact))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--components", type=int, default=500)
    parser.add_argument("--incidents", type=int, default=1_826)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="only prove that it works")
    options = parser.parse_args()
    components, incidents, times = (
        (100, 50, 3) if options.quick else (options.components, options.incidents, options.times)
    )
    graph, board, at = _graph(components), Board(), START
    for number in range(incidents):
        _open(board, number, number % (components - 50), at)
        board.take(
            Entry(at + timedelta(hours=1), "alice", Told(f"inc_{number}", f"upe_{number}", "resolved", WORDS))
        )
        at += timedelta(days=1)
    folder = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    made, published = [], []
    try:
        site, target = Site(Signer.kept(folder / "key")), Folder(folder / "site")
        for number in range(times + 1):
            _open(board, incidents + number, number, at)
            own = board.standings()
            standings = graph.standings(own)
            view = View(
                "Wallet", "https://status.example.org", graph, board, own, standings, at, Official(), START
            )
            began_s = time.perf_counter()
            files = site.files(view, unmeasured=False)
            made_s = time.perf_counter()
            target.publish(files)
            if number:  # the first time, every page is made
                made.append(made_s - began_s)
                published.append(time.perf_counter() - began_s)
            target.tidy()
            at += timedelta(minutes=1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    middle, worst = statistics.median(published) * 1_000, max(published) * 1_000
    report(
        "publish",
        ratios={},
        figures={"published_ms": middle, "published_worst_ms": worst, "files": len(files)},
        table=[
            ("files", "made ms", "published ms", "worst ms"),
            (f"{len(files):,}", f"{statistics.median(made) * 1_000:.0f}", f"{middle:.0f}", f"{worst:.0f}"),
        ],
        notes=[f"{components} components, {incidents:,} incidents before."],
    )


if __name__ == "__main__":
    main()

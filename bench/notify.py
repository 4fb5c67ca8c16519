"""`make bench-notify`: letters to 100,000 subscribers, and what that does to the detection beside it.

A real sender writes to a real SMTP server, a process of its own that throws letters away. Meanwhile the
watch takes outcomes of 40 leaves twice a second, in the main thread as in the service; how late it comes,
and how long it takes, is compared with the same time without sending.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from aiosmtpd.controller import Controller

from bench.report import report
from holdfast.base.clock import SystemClock
from holdfast.status.detect.watch import Watch
from holdfast.status.notices.archive import Written
from holdfast.status.outcomes import Count
from holdfast.status.store import Store
from holdfast.status.subscriptions.channels import Mail, MailSettings
from holdfast.status.subscriptions.links import Links
from holdfast.status.subscriptions.sender import Sender
from holdfast.status.subscriptions.store import Roll
from holdfast.status.subscriptions.wishes import Wishes

TICK_S = 0.5
LEAVES = [(f"capability{n % 4}", f"rail{n}", "", "") for n in range(40)]


class _Nowhere:
    async def handle_DATA(self, _server: object, _session: object, _envelope: object) -> str:  # noqa: N802
        return "250 OK"


def _swallow(port: int) -> None:
    controller = Controller(_Nowhere(), hostname="127.0.0.1", port=port, ready_timeout=10)
    controller.start()
    time.sleep(86_400)


def _notice() -> Written:
    text = "Wallet: North does not answer\nWe are looking into it.\nCode HF-0000-0000"
    return Written(
        "upd_1", datetime.now(UTC), "HF-0000-0000", "inc_1", "incident", "technical", "major", False,
        ("north",), dict.fromkeys(("en", "zh-CN"), "North does not answer"),
        dict.fromkeys(("en", "zh-CN"), text), dict.fromkeys(("en", "zh-CN"), "2027-01-01T00:00:00Z x"), {},
    )  # fmt: skip


def _watched(until: float | None, sender: Sender | None, many: int) -> tuple[list[float], list[float]]:
    """Tick until a moment, or until all was sent; return how late each tick came, and how long it took."""
    watch, late, took = Watch(), [], []
    due = time.perf_counter()
    while until is None or time.perf_counter() < until:
        if sender is not None and sum(sender.tally.sent.values()) >= many:
            break
        due += TICK_S
        time.sleep(max(0.0, due - time.perf_counter()))
        late.append(time.perf_counter() - due)
        now_s = time.time()
        bucket_s = int(now_s) // 10 * 10
        began = time.perf_counter()
        watch.tick(now_s, [Count(bucket_s, *leaf, 5, 0, 0) for leaf in LEAVES], live=True)
        took.append(time.perf_counter() - began)
    return late, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subscribers", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="only prove that it works")
    options = parser.parse_args()
    many = 300 if options.quick else options.subscribers
    port = 18_425
    server = multiprocessing.get_context("spawn").Process(target=_swallow, args=(port,), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as name:
        folder, clock = Path(name), SystemClock()
        links = Links.kept(folder / "links.key", "https://status.example.org")
        roll = Roll(folder / "subscribers.sqlite3")
        roll.put("email", ((f"p{n}@example.org", Wishes()) for n in range(many)), clock.now().timestamp())
        roll.close()
        mail = MailSettings("127.0.0.1", "status@example.org", port, "none", connections=8)
        alone = _watched(time.perf_counter() + (2 if options.quick else 20), None, many)
        sender = Sender(folder, lambda: [Mail(mail, None, "Wallet", links, clock)], clock)
        sender.start()
        store = Store(folder / "status.sqlite3")
        store.add_notices([("upd_1", msgspec.json.encode(_notice()))])
        began = time.perf_counter()
        sender.wake()
        beside = _watched(None, sender, many)
        took_s = time.perf_counter() - began
        sender.stop()
        store.close()
    server.terminate()
    figures = {"subscribers": many, "letters_per_s": many / took_s, "took_s": took_s}
    for said, (late, took) in (("alone", alone), ("beside", beside)):
        figures[f"tick_late_ms_max_{said}"] = max(late) * 1e3
        figures[f"tick_took_ms_median_{said}"] = statistics.median(took) * 1e3
        figures[f"tick_took_ms_max_{said}"] = max(took) * 1e3
    rows = [("", "tick late ms, most", "tick took ms, middle", "most")]
    rows += [
        (
            said,
            f"{figures[f'tick_late_ms_max_{said}']:.1f}",
            f"{figures[f'tick_took_ms_median_{said}']:.2f}",
            f"{figures[f'tick_took_ms_max_{said}']:.1f}",
        )
        for said in ("alone", "beside")
    ]
    notes = [f"{many:,} letters in {took_s:.0f} s: {many / took_s:,.0f}/s over eight connections."]
    report("notify", ratios={}, figures=figures, table=rows, notes=notes)


if __name__ == "__main__":
    main()

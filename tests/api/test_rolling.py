"""Our own upgrades need no window: servers and workers are replaced, and the schema changes, under load."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx

from holdfast.base.ids import public
from holdfast.platform import migrate
from holdfast.platform.migrate import Migration
from tests.api.world import Api, Shop, running_server, shop_now
from tests.support.running import running

WAYS = 4
BEFORE = Migration("payments", "9998_rolling", "pre", "alter table payments.payments add column rolling text")
AFTER = Migration("payments", "9999_rolled", "post", "alter table payments.payments drop column rolling")
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


class Load:
    """Payers who pay on and on, by whatever server of the list takes it, as behind a load balancer."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.urls: list[str] = []
        self.ended: Counter[str] = Counter()
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._pay) for _ in range(WAYS)]

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        self._stop.set()
        for each in self._threads:
            each.join(60)

    def _pay(self) -> None:
        headers = {"authorization": f"Bearer {self.shop.key}"}
        with httpx.Client(headers=headers, timeout=30) as client:
            while not self._stop.is_set():
                self._one(client, str(uuid4()))

    def _one(self, client: httpx.Client, key: str) -> None:
        """Make one payment: what a server cannot take now goes to another, with the same key."""
        body = {"amount": {"asset": "CNY", "amount_minor": 1}, "payer": self.shop.payer_id}
        said = "no server"
        for turn in range(40):
            url = self.urls[turn % len(self.urls)]
            try:
                answer = client.post(url + "/v1/payments", json=body, headers={"idempotency-key": key})
            except NOT_SENT as error:
                said = repr(error)
            except httpx.TransportError as error:
                said = repr(error)
            else:
                if answer.status_code in (200, 201):
                    self.ended[answer.json()["state"]] += 1
                    return
                said = answer.text
                if answer.status_code not in (409, 425, 429, 503):
                    break
            time.sleep(0.05)
        self.failed.append(said)

    def go_on(self, many: int) -> None:
        """Wait until so many more were paid."""
        goal, deadline = sum(self.ended.values()) + many, time.monotonic() + 60
        while sum(self.ended.values()) < goal:
            assert time.monotonic() < deadline, self.failed
            time.sleep(0.02)


def test_servers_workers_and_the_schema_are_replaced_under_load_without_a_failed_payment(
    module_dsn: str, tmp_path: Path
) -> None:
    shop = shop_now(module_dsn)
    load = Load(shop)
    environment = {"HOLDFAST_DSN": module_dsn}
    folders = [tmp_path / name for name in ("old", "next", "last", "work1", "work2")]
    for folder in folders:
        folder.mkdir()
    with ExitStack() as stack:
        old, worker = ExitStack(), ExitStack()
        first = old.enter_context(running_server(module_dsn, folders[0]))
        worker.enter_context(running("worker", folders[3], environment))
        load.urls = [first.url]
        load.start()
        stack.callback(load.stop)
        load.go_on(50)
        migrate.apply(module_dsn, [*migrate.shipped(), BEFORE], phases=("pre",))
        load.go_on(20)
        second = stack.enter_context(running_server(module_dsn, folders[1]))
        load.urls = [second.url, first.url]
        load.go_on(50)
        old.close()
        load.urls = [second.url]
        stack.enter_context(running("worker", folders[4], environment))
        worker.close()
        load.go_on(50)
        migrate.apply(module_dsn, [*migrate.shipped(), BEFORE, AFTER], phases=("pre", "post"))
        load.go_on(50)
        load.stop()
        assert load.failed == []
        assert set(load.ended) == {"succeeded"}
        api = Api(second.url, shop.key)
        account = public("mer", shop.merchant.id)
        paid = api.get(f"/v1/accounts/{account}/CNY").json()["available_minor"]
        api.close()
        assert paid == sum(load.ended.values())

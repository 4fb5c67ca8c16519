"""What a caller writes beside a transfer is in the ledger sealed, and erased with the payer's key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg

from holdfast.base.ids import public
from holdfast.domains.ledger.verify import verify
from tests.api.world import Api, Server, Shop


def run(server: Server, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", *arguments],
        env={**os.environ, "HOLDFAST_DSN": server.dsn}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def lines(api: Api, owner: str) -> dict[str, dict[str, str]]:
    return {e["id"]: e["metadata"] for e in api.get(f"/v1/accounts/{owner}/CNY/statement").json()["data"]}


def test_a_reference_is_shown_until_the_payer_is_erased_and_the_books_stay_sound(
    api: Api, shop: Shop, server: Server, tmp_path: Path
) -> None:
    mei, tom = (api.post("/v1/payers", {"name": name}).json()["id"] for name in ("Mei", "Tom"))
    mine = public("mer", shop.merchant.id)
    made = {}
    for source, destination in (
        (shop.payer_id, mei),
        (mei, tom),
        (tom, shop.payer_id),
        (shop.payer_id, mine),
        (mine, mei),
    ):
        asked = {
            "source": source, "destination": destination, "amount": {"asset": "CNY", "amount_minor": 5},
            "reference": "rent of Mei 梅",
        }  # fmt: skip
        answer = api.post("/v1/transfers", asked)
        assert answer.status_code == 201, answer.text
        made[answer.json()["id"]] = source, destination
    about_mei = {
        i
        for i, (source, destination) in made.items()
        if mei == source or (source == mine and mei == destination)
    }
    assert len(about_mei) == 2
    with psycopg.connect(server.dsn) as connection:
        stored = connection.execute(
            "select metadata::text from ledger.transfers where metadata is not null"
        ).fetchall()
    assert len(stored) >= 5
    assert not [text for (text,) in stored if "rent" in text or "梅" in text]
    shown = lines(api, mei) | lines(api, tom) | lines(api, mine)
    assert {i: shown[i] for i in made} == {i: {"reference": "rent of Mei 梅"} for i in made}
    code, text = run(server, "ledger", "erase", mei, "--yes")
    assert (code, "Erased:" in text) == (0, True), text
    shown = lines(api, mei) | lines(api, tom) | lines(api, mine)
    for i in made:
        assert shown[i] == {"reference": "(erased)" if i in about_mei else "rent of Mei 梅"}
    code, text = run(server, "ledger", "erase", mei, "--yes")
    assert (code, "There is no key" in text) == (0, True), text
    assert verify(server.dsn).findings == []
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute(
            "select id from ledger.transfers where metadata is not null limit 1"
        ).fetchone()
    assert row is not None
    code, text = run(server, "receipt", "show", str(row[0]))
    assert (code, "sealed:" in json.loads(text)["transfer"]["metadata"]["reference"]) == (0, True), text
    (tmp_path / "receipt.json").write_text(text)
    code, text = run(server, "receipt", "verify", str(tmp_path / "receipt.json"))
    assert code == 0, text

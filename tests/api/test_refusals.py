"""Bad input is refused with a clear problem and moves nothing."""

from __future__ import annotations

import json
import socket
import time
from uuid import uuid4

import httpx
import pytest

from tests.api.test_payments import asked, balance
from tests.api.world import Api, Server, Shop

AMOUNTS: list[tuple[str, str]] = [
    ("a float", "10.0"),
    ("a float in scientific notation", "1e3"),
    ("a fraction", "10.5"),
    ("a text", '"10"'),
    ("a truth value", "true"),
    ("nothing", "null"),
    ("zero", "0"),
    ("minus zero", "-0"),
    ("a negative amount", "-5"),
    ("more than may be asked for at a time", str(10**13 + 1)),
    ("2^53 - 1", str(2**53 - 1)),
    ("2^53", str(2**53)),
    ("2^63", str(2**63)),
    ("2^64", str(2**64)),
    ("an amount of thousands of digits", "9" * 4000),
    ("NaN", "NaN"),
    ("Infinity", "Infinity"),
    ("1e400", "1e400"),
    ("a hexadecimal number", "0x10"),
    ("digits of another script", '"١٠"'),
    ("a list", "[10]"),
]


@pytest.mark.parametrize("amount", [row[1] for row in AMOUNTS], ids=[row[0] for row in AMOUNTS])
def test_v5_0_0_2_2_1_what_is_no_whole_amount_is_refused_and_moves_nothing(
    api: Api, shop: Shop, amount: str
) -> None:
    body = f'{{"amount":{{"asset":"CNY","amount_minor":{amount}}},"payer":"{shop.payer_id}"}}'
    refused = raw(api, "/v1/payments", body.encode())
    assert refused.status_code == 400, refused.text
    assert refused.json()["code"] in ("request_invalid", "body_malformed")
    assert balance(api, shop.payer_id) == 1_000_000


def raw(api: Api, path: str, body: bytes, **headers: str) -> httpx.Response:
    sent = {"content-type": "application/json", "idempotency-key": str(uuid4())} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return api.http.post(path, content=body, headers=sent)


def changed(shop: Shop, **more: object) -> bytes:
    return json.dumps(asked(shop) | more).encode()


def test_an_unknown_field_is_refused_and_named(api: Api, shop: Shop) -> None:
    refused = raw(api, "/v1/payments", changed(shop, amuont=5))
    assert (refused.status_code, refused.json()["code"]) == (400, "request_invalid")
    assert "amuont" in refused.json()["detail"]


def test_v5_0_0_15_3_3_an_unknown_field_deeper_down_is_refused(api: Api, shop: Shop) -> None:
    body = changed(shop, amount={"asset": "CNY", "amount_minor": 5, "captured_minor": 9})
    assert raw(api, "/v1/payments", body).status_code == 400


def test_v5_0_0_1_5_3_a_key_that_stands_twice_is_refused_and_moves_nothing(api: Api, shop: Shop) -> None:
    body = changed(shop)[:-1] + b',"payer":"pyr_00000000000000000000000000"}'
    refused = raw(api, "/v1/payments", body)
    assert (refused.status_code, refused.json()["code"]) == (400, "body_malformed")
    assert balance(api, shop.payer_id) == 1_000_000


BODIES: list[tuple[str, bytes, int, str]] = [
    ("an empty body", b"", 400, "request_invalid"),
    ("a list", b"[]", 400, "request_invalid"),
    ("null", b"null", 400, "request_invalid"),
    ("a text", b'"x"', 400, "request_invalid"),
    ("no JSON", b"amount=5", 400, "body_malformed"),
    ("bytes that are not UTF-8", b'{"payer":"\xff"}', 400, "body_malformed"),
    ("a lone surrogate", b'{"payer":"\\ud800"}', 400, "request_invalid"),
    ("a NUL", b'{"payer":"\\u0000"}', 400, "body_malformed"),
    ("deep nesting", b'{"a":' * 1000 + b"1" + b"}" * 1000, 400, "body_too_deep"),
    ("deep nesting that never ends", b"[" * 60_000, 400, "body_too_deep"),
    ("a body beyond the bound", b'{"a":"' + b"x" * 70_000 + b'"}', 413, "body_too_large"),
]


@pytest.mark.parametrize(
    ("body", "status", "code"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES]
)
@pytest.mark.parametrize("path", ["/v1/payments", "/v1/transfers"])
def test_a_body_that_is_no_request_is_refused(
    api: Api, path: str, body: bytes, status: int, code: str
) -> None:
    refused = raw(api, path, body)
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert refused.headers["content-type"] == "application/problem+json"


def test_v5_0_0_4_1_1_another_content_type_is_refused(api: Api, shop: Shop) -> None:
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json5",
        "multipart/form-data; boundary=x",
    ):
        refused = raw(api, "/v1/payments", changed(shop), content_type=kind)
        assert (refused.status_code, refused.json()["code"]) == (415, "content_type_unsupported"), kind
    assert (
        raw(api, "/v1/payments", changed(shop), content_type="application/json; charset=utf-8").status_code
        == 201
    )


def test_ten_megabytes_are_refused_before_they_are_read(server: Server, shop: Shop) -> None:
    """The server answers 413 on the announced length alone: nothing of the body was sent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/payments HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer "
            + shop.key.encode()
            + b"\r\nidempotency-key: k\r\ncontent-length: 10485760\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_without_announced_length_is_cut_off_at_the_bound(server: Server, shop: Shop) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/payments HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer "
            + shop.key.encode()
            + b"\r\nidempotency-key: k\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        answer = b""
        for _ in range(4):
            try:
                connection.sendall(chunk)
            except OSError:
                break
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 413"), answer


@pytest.mark.parametrize("name", ["authorization", "idempotency-key", "content-type"])
def test_v5_0_0_4_2_1_a_header_that_stands_twice_is_refused(server: Server, shop: Shop, name: str) -> None:
    body = changed(shop)
    headers = {
        "authorization": f"Bearer {shop.key}",
        "idempotency-key": "k",
        "content-type": "application/json",
    }
    lines = [f"{n}: {v}" for n, v in headers.items()] + [
        f"{name}: {headers[name]}",
        f"content-length: {len(body)}",
    ]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            ("POST /v1/payments HTTP/1.1\r\nhost: x\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode() + body
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 400")


VALUES: list[tuple[str, dict[str, object], int, str]] = [
    ("an unknown asset", {"amount": {"asset": "XYZ", "amount_minor": 5}}, 400, "asset_unknown"),
    ("an asset in small letters", {"amount": {"asset": "cny", "amount_minor": 5}}, 400, "asset_unknown"),
    ("a foreign payer", {"payer": "pyr_01M83P95ZME5ZS8Q6TSP4BJ1AC"}, 404, "payer_not_found"),
    ("an id of another kind as payer", {"payer": "pay_01M83P95ZME5ZS8Q6TSP4BJ1AC"}, 404, "id_invalid"),
    ("an id that overflows", {"payer": "pyr_ZZZZZZZZZZZZZZZZZZZZZZZZZZ"}, 404, "id_invalid"),
    ("a payer and a guest", {"guest": {"token": "tok"}}, 400, "request_invalid"),
    ("neither payer nor guest", {"payer": None}, 400, "request_invalid"),
    ("too many metadata", {"metadata": {str(n): "" for n in range(21)}}, 400, "request_invalid"),
    ("a metadata key that is too long", {"metadata": {"k" * 41: ""}}, 400, "request_invalid"),
    ("a metadata key with a space", {"metadata": {"a b": ""}}, 400, "request_invalid"),
    ("a metadata key that ends in a newline", {"metadata": {"a\n": ""}}, 400, "request_invalid"),
    ("a metadata value that is too long", {"metadata": {"k": "v" * 501}}, 400, "request_invalid"),
    ("a metadata value that is no text", {"metadata": {"k": 5}}, 400, "request_invalid"),
    ("a reference that is too long", {"reference": "r" * 121}, 400, "request_invalid"),
    ("an unknown way to capture", {"capture": "later"}, 400, "request_invalid"),
    ("a deadline in the past", {"deadline_s": 0}, 400, "request_invalid"),
    ("too many methods", {"methods": ["ins_00000000000000000000000000"] * 21}, 400, "request_invalid"),
    ("a card number in place of a guest's token", {"payer": None, "guest": {"token": "4242424242424242"}},
        400, "card_number_refused"),
    ("a guest who pays by card where no rail takes the asset", {"payer": None, "guest": {"token": "t"},
        "amount": {"asset": "POINTS", "amount_minor": 1}}, 422, "no_way_to_pay"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "status", "code"), [row[1:] for row in VALUES], ids=[row[0] for row in VALUES]
)
def test_a_value_that_makes_no_sense_is_refused(
    api: Api, shop: Shop, more: dict[str, object], status: int, code: str
) -> None:
    refused = raw(api, "/v1/payments", changed(shop, **more))
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert balance(api, shop.payer_id) == 1_000_000


def test_a_problem_says_what_it_is_and_what_to_do(api: Api, shop: Shop) -> None:
    refused = raw(api, "/v1/payments", changed(shop, amount={"asset": "CNY", "amount_minor": -1}))
    told = refused.json()
    assert told["type"] == "/problems/request_invalid"
    assert told["status"] == 400
    assert told["title"]
    assert told["remedy"]
    assert "$.amount.amount_minor" in told["detail"]
    assert told["request_id"] == refused.headers["x-request-id"]
    assert api.get(told["type"]).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1/payments/pay_00000000000000000000000000", 404, "payment_not_found"),
        ("GET", "/v1/payments/%00", 404, "id_invalid"),
        ("GET", "/v1/payments/..%2f..%2fetc", 404, "not_found"),
        ("DELETE", "/v1/payments", 405, "method_not_allowed"),
        ("GET", "/v1/payments?limit=0", 400, "request_invalid"),
        ("GET", "/v1/payments?limit=101", 400, "request_invalid"),
        ("GET", "/v1/payments?limit=x", 400, "request_invalid"),
        ("GET", "/v1/payments?starting_after=x", 400, "cursor_invalid"),
        ("GET", "/v1/payments?state=paid", 400, "request_invalid"),
        ("GET", "/v1/events?type=%3E%00", 400, "request_invalid"),
        ("GET", "/v1/payments?unknown=%00", 400, "request_invalid"),
        ("GET", "/pay/x?lang=%00", 400, "request_invalid"),
        ("GET", "/v1/refunds/ref_00000000000000000000000000", 404, "not_found"),
        ("GET", "/v1/events/evt_00000000000000000000000000", 404, "not_found"),
        ("GET", "/v1/webhook_endpoints/we_00000000000000000000000000", 404, "webhook_endpoint_not_found"),
        ("GET", "/v1/payers/pyr_00000000000000000000000000", 404, "payer_not_found"),
        ("GET", "/v1/accounts/mer_00000000000000000000000000", 404, "merchant_not_found"),
        ("GET", "/v1/accounts/rail:north", 404, "id_invalid"),
        ("POST", "/v1/rails/nowhere/webhook", 404, "rail_unknown"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_problem_too(
    api: Api, method: str, path: str, status: int, code: str
) -> None:
    refused = api.http.request(method, path)
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_query_that_is_no_utf_8_finds_nothing(api: Api) -> None:
    found = api.http.get("/v1/events?type=%ff%fe")
    assert (found.status_code, found.json()["data"]) == (200, [])


def test_a_slow_body_is_given_up(server: Server, shop: Shop) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/payments HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer "
            + shop.key.encode()
            + b'\r\nidempotency-key: k\r\ncontent-length: 100\r\n\r\n{"a"'
        )
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert time.monotonic() - began < 20


def test_v5_0_0_3_4_every_answer_carries_the_headers_that_keep_browsers_honest(api: Api) -> None:
    for path in ("/v1/payments", "/v1/nothing", "/docs", "/healthz"):
        answer = api.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], path
        assert answer.headers["strict-transport-security"].startswith("max-age="), path
        assert answer.headers["x-request-id"].startswith("req_"), path
    assert api.get("/v1/payments").headers["cache-control"] == "no-store"

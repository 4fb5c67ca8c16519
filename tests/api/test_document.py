"""The API's description of itself is valid, whole and readable, and holds under whatever is thrown at it."""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema_rs import validator_for
from markupsafe import escape
from schemathesis.config import SchemathesisConfig

from holdfast.api.errors import TABLE
from tests.api.test_payments import asked
from tests.api.world import Api, Server, Shop

REFERENCE = re.compile(r'"\$ref":\s*"#/components/schemas/([^"]+)"')


def test_the_document_is_openapi_3_1_and_names_only_shapes_that_it_has(api: Api) -> None:
    answer = api.get("/openapi.json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    assert set(REFERENCE.findall(answer.text)) <= set(document["components"]["schemas"])
    ids = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(ids) == len(set(ids)) > 25
    for schema in document["components"]["schemas"].values():
        validator_for({**schema, "components": document["components"], "$schema": DRAFT})


DRAFT = "https://json-schema.org/draft/2020-12/schema"


def test_what_the_server_answers_is_what_the_document_promises(api: Api, shop: Shop) -> None:
    document = api.get("/openapi.json").json()

    def check(path: str, method: str, status: str, answer: Any) -> None:
        content = document["paths"][path][method]["responses"][status]["content"]
        schema = next(iter(content.values()))["schema"]
        found = list(
            validator_for({**schema, "components": document["components"], "$schema": DRAFT}).iter_errors(
                answer
            )
        )
        assert not found, (path, found)

    made = api.post("/v1/payments", asked(shop)).json()
    check("/v1/payments", "post", "201", made)
    check("/v1/payments", "get", "200", api.get("/v1/payments").json())
    check("/v1/payments/{payment_id}", "get", "200", api.get(f"/v1/payments/{made['id']}").json())
    check("/v1/payments/{payment_id}/story", "get", "200", api.get(f"/v1/payments/{made['id']}/story").json())
    check("/v1/events", "get", "200", api.get("/v1/events").json())
    check("/v1/assets", "get", "200", api.get("/v1/assets").json())
    check("/v1/rails", "get", "200", api.get("/v1/rails").json())
    check("/v1/payers/{payer_id}", "get", "200", api.get(f"/v1/payers/{shop.payer_id}").json())


def test_the_document_can_be_read_in_a_browser_and_fetches_nothing_from_elsewhere(api: Api) -> None:
    page = api.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    document = api.get("/openapi.json").json()
    for path in document["paths"]:
        assert path in page.text
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in page.text
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page.text)
    assert "<script" not in page.text


def test_the_page_reads_well(api: Api) -> None:
    page = re.sub(r"<style>.*?</style>|<pre.*?</pre>", "", api.get("/docs").text, flags=re.DOTALL)
    words = re.sub(r"<[^>]+>", "", page)
    assert "`" not in words
    assert "Page of PaymentShown" in words
    assert "Page_" not in words
    assert not re.search(r"at (least|most) \d+\.\d", words), "whole numbers look whole"
    assert not re.search(r"[.?!]\.", words.replace("…", "")), "a sentence ends once"
    assert "document follows" not in words
    assert "URL follows" not in words
    assert "<th></th>" not in page
    assert 'href="/"' in page


def test_every_shape_has_an_example_that_is_valid_and_the_page_shows_it(api: Api) -> None:
    document, page = api.get("/openapi.json").json(), api.get("/docs").text
    for name, schema in document["components"]["schemas"].items():
        (example,) = schema["examples"]
        shape = {**schema, "components": document["components"], "$schema": DRAFT}
        assert not list(validator_for(shape).iter_errors(example)), (name, example)
        assert "text" not in re.findall(r'"(\w+)"', json.dumps(example)), (
            f"{name} has a value that says nothing"
        )
    assert "&#34;payer&#34;: &#34;pyr_" in page, "a request for a payment"
    assert "&#34;id&#34;: &#34;pay_" in page, "and its answer"


def test_the_document_says_which_problems_have_no_request_id(api: Api, shop: Shop) -> None:
    told = api.get("/openapi.json").json()["components"]["schemas"]["Problem"]["description"]
    assert "request_id` is absent where the answer was kept for its Idempotency-Key" in told
    kept = api.post("/v1/payments", asked(shop, methods=["ins_00000000000000000000000000"]))
    assert kept.status_code == 404
    assert "request_id" not in kept.json()
    assert kept.headers["x-request-id"]
    assert api.get("/v1/payments/pay_1").json()["request_id"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_head_answers_like_get_without_a_body(server: Server, path: str) -> None:
    got, head = httpx.get(server.url + path), httpx.head(server.url + path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]


def test_every_problem_code_has_a_page(api: Api) -> None:
    everything = api.get("/problems").text
    for code in TABLE:
        assert f"/problems/{code}" in everything
        one = api.get(f"/problems/{code}").text
        for part in ("What to do", "What it looks like"):
            assert part in one
        assert str(escape(TABLE[code].remedy)) in one
    assert "nothing was kept and nothing is under way" in api.get("/problems/payment_failed").text
    assert "never send it anew" in api.get("/problems/commit_unknown").text
    assert api.get("/problems/no_such_code").status_code == 404


def pay_from(body: dict[str, Any], payer: str) -> None:
    """Have the transfers of a body, or its one, move yuan of somebody who is there."""
    many = body.get("transfers")
    for one in [body, *(many if isinstance(many, list) else [])]:
        if isinstance(one, dict) and isinstance(one.get("amount"), dict):
            one["amount"]["asset"] = "CNY"
        if isinstance(one, dict) and "source" in one:
            one["source"] = payer


def test_v5_0_0_2_2_1_nothing_thrown_at_any_operation_is_answered_by_a_server_error(
    server: Server, api: Api, shop: Shop
) -> None:
    """Schemathesis makes requests of every operation, in and out of its schema; a 5xx is a defect."""
    chosen = int(os.environ.get("SEED", random.randrange(10**9)))
    print(f"SEED={chosen}")
    examples = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "10"))
    loaded = schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=SchemathesisConfig())
    headers = {"authorization": f"Bearer {shop.key}"}
    seen: Counter[int] = Counter()
    reached: set[str] = set()

    made = api.post("/v1/payments", asked(shop, capture="manual")).json()["id"]
    paths = {"payment_id": made, "payer_id": shop.payer_id, "owner": shop.payer_id, "asset_code": "CNY"}

    def make_real(case: Any) -> None:
        """Put ids that exist where made-up ones stood, so that requests get further."""
        for name in case.path_parameters or {}:
            case.path_parameters[name] = paths.get(name, case.path_parameters[name])
        if isinstance(case.body, dict):
            for name, value in (("payer", shop.payer_id), ("payment", made)):
                if name in case.body:
                    case.body[name] = value
            pay_from(case.body, shop.payer_id)

    def throw(operation: Any) -> None:
        positive = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
        negative = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @seed(chosen)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=st.one_of(positive, negative), key=st.uuids(), real=st.booleans())
        def check(case: Any, key: Any, real: bool) -> None:
            if real:
                make_real(case)
            answer = case.call(headers=headers | {"idempotency-key": str(key)}, timeout=30)
            seen[answer.status_code] += 1
            reached.add(operation.label)
            assert answer.status_code < 500, (operation.label, case.as_curl_command(), answer.text)
            if answer.status_code >= 400:
                told = answer.json()
                assert told["code"] in TABLE, told

        check()

    for result in loaded.get_all_operations():
        throw(result.ok())
    print(dict(seen))
    assert len(reached) > 25
    assert sum(seen.values()) >= 300


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/problems"])
def test_what_everybody_may_see_needs_no_key(server: Server, path: str) -> None:
    assert Api(server.url, None).get(path).status_code == 200

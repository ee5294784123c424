"""The description of the API, and the page made of it."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from tests.http.shop import Caller

pytestmark = pytest.mark.anyio


async def document() -> Any:
    return (await Caller().send("GET", "/openapi.json")).json()


async def test_the_document_is_valid_openapi_31_and_always_the_same() -> None:
    first = await Caller().send("GET", "/openapi.json")
    second = await Caller().send("GET", "/openapi.json")
    assert first.body == second.body
    assert first.json()["openapi"].startswith("3.1")
    validate(first.json(), cls=OpenAPIV31SpecValidator)


async def test_the_document_has_an_entity_tag() -> None:
    caller = Caller()
    tag = (await caller.send("GET", "/openapi.json")).headers["etag"]
    response = await caller.send("GET", "/openapi.json", None, {"if-none-match": tag})
    assert response.status == 304


async def test_every_declared_refusal_and_general_problem_is_an_answer() -> None:
    paths = (await document())["paths"]
    add = paths["/v1/products"]["post"]
    conflict = add["responses"]["409"]["content"]["application/problem+json"]["schema"]
    assert conflict == {"$ref": "#/components/schemas/SkuTakenProblem"}
    assert {"201", "400", "403", "406", "408", "413", "415", "422", "503"} <= set(add["responses"])
    get = paths["/v1/products/{product_id}"]["get"]
    assert "413" not in get["responses"]
    assert "304" in get["responses"]
    both = get["responses"]["404"]["content"]["application/problem+json"]["schema"]["anyOf"]
    assert len(both) == 2
    assert get["x-tenfold"]["who"] == "anyone"


async def test_both_forms_are_offered() -> None:
    post = (await document())["paths"]["/v1/orders"]["post"]
    assert set(post["requestBody"]["content"]) == {"application/json", "application/msgpack"}
    assert set(post["responses"]["200"]["content"]) == {"application/json", "application/msgpack"}


async def test_the_page_names_every_operation_and_needs_nothing_else() -> None:
    caller = Caller()
    response = await caller.send("GET", "/docs")
    page = response.body.decode()
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    for name in caller.product.routed():
        assert f"id='{name}'" in page
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=['\"]https?:", page)
    for anchor in re.findall(r"href='#([^']+)'", page):
        assert f"id='{anchor}'" in page, anchor


async def test_its_examples_go_to_where_the_page_was_asked_for() -> None:
    caller = Caller()
    hosts = {"localhost:8461": "localhost:8461", "[::1]:80": "[::1]:80", "a';reboot #": "localhost"}
    tags = set()
    for host, shown in hosts.items():
        response = await caller.send("GET", "/docs", headers={"host": host})
        page = response.body.decode()
        assert f"&#x27;http://{shown}/v1/orders&#x27;" in page
        assert "reboot" not in page
        assert "tenfold.invalid" not in page
        tags.add(response.headers["etag"])
    assert len(tags) == len(hosts)


async def test_the_type_of_a_problem_leads_to_its_place_on_the_page() -> None:
    caller = Caller()
    response = await caller.send("GET", "/problems/sku_taken")
    assert response.status == 303
    assert response.headers["location"] == "/docs#problem-sku_taken"
    assert (await caller.send("GET", "/problems/nothing")).status == 404


def test_serving_an_operation_loads_neither_the_document_nor_the_page() -> None:
    code = (
        "import sys, tenfold.edges.http.app\n"
        "late = {'tenfold.edges.http.openapi', 'tenfold.edges.http.reference_page',"
        " 'prometheus_client', 'starlette', 'jinja2'}\n"
        "sys.exit(str(sorted(late & set(sys.modules))) if late & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

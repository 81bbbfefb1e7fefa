"""What is described is what is served, and the page loads nothing from anywhere."""

from __future__ import annotations

import re

import msgspec
from litestar import Litestar

from switch.net.debits.routes import ENDPOINTS as DEBIT_ENDPOINTS
from switch.net.debits.routes import debit_routes
from switch.net.http.description import document, page
from switch.net.http.endpoints import ENDPOINTS
from switch.net.http.routes import bill_routes, sale_routes

ALL = [*ENDPOINTS, *DEBIT_ENDPOINTS]


def test_every_path_is_described_and_every_description_is_a_path() -> None:
    routes = [*bill_routes(None), *sale_routes(None), *debit_routes(None, None)]  # type: ignore[arg-type]
    served = {
        (method, re.sub(r"\{(\w+):str\}", r"{\1}", route.path))
        for route in Litestar(routes, openapi_config=None, logging_config=None).routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    }
    assert served == {(each.method, each.path) for each in ALL}


def test_the_document_is_whole() -> None:
    described = document(ALL)
    text = msgspec.json.encode(described).decode()
    for reference in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert reference in described["components"]["schemas"]
    names = [each["operationId"] for path in described["paths"].values() for each in path.values()]
    assert len(names) == len(set(names)) == len(ALL)


def test_the_page_shows_every_path_and_loads_nothing() -> None:
    shown = page(document(ALL))
    for endpoint in ALL:
        assert f"{endpoint.method} {endpoint.path}" in shown
    assert not re.search(r"<script|src=|@import|url\(|https?://", shown)

"""What is described is what is served, its examples fit, and the page loads nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Litestar

from risk.check import load_ruleset
from switch.console.body import PATHS, descriptions
from switch.console.description import document, page
from switch.console.endpoint import Endpoint
from switch.console.endpoints import ENDPOINTS
from switch.console.routes import routes
from switch.ledger.rule_list_file import read_entries

if TYPE_CHECKING:
    from tests.switch.console.conftest import Served


def test_every_path_is_described_and_every_description_is_a_path() -> None:
    app = Litestar(routes(None, ENDPOINTS), openapi_config=None, logging_config=None)  # type: ignore[arg-type]
    served = {
        (method, re.sub(r"\{(\w+):str\}", r"{\1}", route.path))
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    }
    assert served == {(each.method, each.path.rstrip("/")) for each in ENDPOINTS}
    assert {name for each in ENDPOINTS for name in each.path_names} <= set(PATHS)


def test_the_document_is_whole() -> None:
    described = document(ENDPOINTS)
    text = msgspec.json.encode(described).decode()
    for reference in re.findall(r'"#/components/schemas/([\w.]+)"', text):
        assert reference in described["components"]["schemas"]
    operations = [each for path in described["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in operations]
    assert len(names) == len(set(names)) == len(ENDPOINTS)
    for operation in operations:
        assert {"401", "403", "503"} <= set(operation["responses"])
        assert operation["description"].startswith("Roles: ")
        if "requestBody" in operation:
            ((_, told),) = operation["requestBody"]["content"].items()
            assert told["example"] is not None, operation["operationId"]


def _fits(endpoint: Endpoint) -> Any:
    if (wanted := endpoint.asked or endpoint.asked_as) is not None:
        return msgspec.convert(endpoint.example, wanted)
    return read_entries(endpoint.example.encode(), "Asia/Shanghai")


def test_every_example_is_taken() -> None:
    for endpoint in ENDPOINTS:
        if endpoint.example is not None:
            assert _fits(endpoint)
            if "toml" in endpoint.example:
                load_ruleset(endpoint.example["toml"])
        if endpoint.answer_example is not None:
            assert endpoint.answers is not None
            assert msgspec.convert(endpoint.answer_example, endpoint.answers)


def test_every_field_says_what_to_give() -> None:
    for endpoint in ENDPOINTS:
        for wanted in (endpoint.asked, endpoint.query):
            for name, words in descriptions(wanted).items() if wanted is not None else ():
                assert words != "a value that fits", (endpoint.path, name)


def test_the_page_shows_every_path_and_loads_nothing() -> None:
    shown = page(document(ENDPOINTS))
    for endpoint in ENDPOINTS:
        assert f"{endpoint.method} {endpoint.path}" in shown
    assert not re.search(r"<script|src=|@import|url\(|https?://", shown)


def test_both_are_served_to_anybody(served: Served) -> None:
    with served.client() as client:
        assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
        answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "style-src 'sha256-" in answer.headers["content-security-policy"]

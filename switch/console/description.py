"""The console's API described: as OpenAPI 3.1 for programs, and as one plain page for people.

Both are made once, from the tables of endpoints and the structs themselves. The page loads
nothing from anywhere, so it is there where there is no internet.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import MediaType, Response, get
from litestar.handlers import BaseRouteHandler

from switch.console.body import PATHS
from switch.console.endpoint import PATH_NAME, Endpoint
from switch.console.problems import MEDIA_TYPE, Fault, Problem
from switch.net.http.description import STYLE

VERSION = "1.0"
TITLE = "citycard: rules and what they decide"
ABOUT = (
    "Who acts is whoever holds the token of `citycard operator add`, sent as Authorization: "
    "Bearer. Amounts are whole minor units, shares parts per million, instants that end in _us "
    "microseconds since 1970. Refusals are RFC 9457 problems. Acts are idempotent by state: "
    "repeating one that is done is answered 409 with how it stands. Roles may be combined."
)
ALWAYS = (Fault.UNAUTHORIZED, Fault.FORBIDDEN, Fault.TOO_MANY, Fault.INTERNAL, Fault.AWAY)
_WITH_BODY = (Fault.BODY, Fault.HEADER, Fault.TOO_SLOW, Fault.TOO_LARGE)
_SCHEMAS = "#/components/schemas/{name}"


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document (OAS 3.1.0)."""
    listed = list(endpoints)
    types = {each.answers for each in listed if each.answers is not None}
    types |= {each.asked for each in listed if each.asked is not None}
    types |= {each.asked_as for each in listed if each.asked_as is not None}
    types |= {each.query for each in listed}
    ordered: list[type[msgspec.Struct]] = sorted(types | {Problem}, key=_name)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_SCHEMAS)
    queries = {each.query.__name__ for each in listed}
    paths: dict[str, dict[str, Any]] = {}
    for each in listed:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": {name: each for name, each in schemas.items() if name not in queries},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _name(of: type[msgspec.Struct]) -> str:
    return of.__name__


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    responses = {str(endpoint.status): _done(endpoint)}
    by_status: dict[int, list[str]] = {}
    faults = [*ALWAYS, *(_WITH_BODY if endpoint.takes_body else ()), *endpoint.faults]
    faults += [Fault.NOT_FOUND] if endpoint.path_names else []
    for fault in dict.fromkeys(faults):
        by_status.setdefault(fault.status, []).append(fault.title)
    for status, titles in sorted(by_status.items()):
        responses[str(status)] = _content(_reference(Problem), "; ".join(titles), MEDIA_TYPE)
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "description": f"Roles: {', '.join(sorted(endpoint.roles))}.",
        "operationId": operation_id(endpoint),
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint, schemas)],
        "responses": responses,
    }
    if endpoint.takes_body:
        asked = endpoint.asked or endpoint.asked_as
        schema = _reference(asked) if asked is not None else {"type": "string"}
        content = {endpoint.asked_type: {"schema": schema, "example": endpoint.example}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def operation_id(endpoint: Endpoint) -> str:
    words = PATH_NAME.sub("", endpoint.path.removeprefix("/v1/")).split("/")
    one = ["one"] if endpoint.path.endswith("}") else []
    return "_".join([endpoint.method.lower(), *filter(None, words), *one]).replace("-", "_")


def _done(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.answers is None:
        return _content({"type": "string"}, "Done", endpoint.answer_type)
    return _content(
        _reference(endpoint.answers), "Done", "application/json", endpoint.answer_example
    )


def _reference(of: type[msgspec.Struct]) -> dict[str, Any]:
    return {"$ref": _SCHEMAS.format(name=of.__name__)}


def _content(
    schema: dict[str, Any], words: str, media_type: str, example: Any = None
) -> dict[str, Any]:
    told = {"schema": schema} | ({"example": example} if example is not None else {})
    return {"description": words, "content": {media_type: told}}


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATHS[name][1],
            "schema": {
                "type": "string",
                "pattern": f"^{PATHS[name][0].pattern.removesuffix('Z')[:-1]}$",
            },
        }
        for name in endpoint.path_names
    ]


def _query_parameters(endpoint: Endpoint, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    schema = schemas[endpoint.query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", []),
            "description": field.get("description", ""),
            "schema": {key: value for key, value in field.items() if key != "description"},
        }
        for name, field in schema["properties"].items()
    ]


def page(described: dict[str, Any]) -> str:
    """The same for people: every path with who may, its fields, and what each field takes."""
    schemas = described["components"]["schemas"]
    parts = [
        f"<h1>{html.escape(described['info']['title'])}</h1>",
        f"<p>{html.escape(described['info']['description'])} The same as "
        '<a href="/openapi.json">OpenAPI</a>.</p>',
    ]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts += _section(f"{method.upper()} {path}", operation, schemas)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(TITLE)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _section(title: str, operation: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    parts = [
        f"<h2><code>{html.escape(title)}</code></h2>",
        f"<p>{html.escape(operation['summary'])}. {html.escape(operation['description'])}</p>",
    ]
    asked = [each for each in operation["parameters"] if each["in"] == "query"]
    if asked:
        rows = ((each["name"], "", each["description"]) for each in asked)
        parts.append(f"<h3>Parameters</h3>{_table(rows)}")
    if "requestBody" in operation:
        ((media_type, told),) = operation["requestBody"]["content"].items()
        parts.append(_fields(f"Body: {media_type}", told["schema"], schemas))
        if told["example"] is not None:
            text = told["example"]
            if not isinstance(text, str):
                text = msgspec.json.format(msgspec.json.encode(text), indent=2).decode()
            parts.append(f"<pre>{html.escape(text)}</pre>")
    answers = ((status, "", one["description"]) for status, one in operation["responses"].items())
    parts.append(f"<h3>Answers</h3>{_table(answers)}")
    done = next(iter(operation["responses"].values()))
    ((media_type, told),) = done["content"].items()
    parts.append(_fields(f"Answer: {media_type}", told["schema"], schemas))
    return parts


def _fields(title: str, schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    if "$ref" not in schema:
        return f"<h3>{html.escape(title)}</h3>"
    named = schemas[schema["$ref"].rpartition("/")[2]]
    required = named.get("required", [])
    rows = (
        (name, _type_of(field) + ("" if name in required else ", may be left out"),
         field.get("description", ""))
        for name, field in named["properties"].items()
    )  # fmt: skip
    return f"<h3>{html.escape(title)}</h3>{_table(rows)}"


def _type_of(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if field.get("type") == "array" and "items" in field:
        return f"list of {_type_of(field['items'])}"
    if "anyOf" in field:
        return " or ".join(_type_of(each) for each in field["anyOf"])
    return str(field.get("type", "any"))


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    told = "".join(
        f"<tr><td><code>{html.escape(one)}</code></td><td>{html.escape(two)}</td>"
        f"<td>{html.escape(three)}</td></tr>"
        for one, two, three in rows
    )
    return f"<table>{told}</table>"


def description_routes(endpoints: Iterable[Endpoint]) -> list[BaseRouteHandler]:
    """`/openapi.json` and `/docs`, which need no token: there is no secret in them."""
    described = document(endpoints)
    octets, text = msgspec.json.encode(described), page(described)
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'"

    @get("/openapi.json")
    async def openapi() -> Response[bytes]:
        return Response(octets, media_type="application/json")

    @get("/docs")
    async def docs() -> Response[str]:
        headers = {"content-security-policy": policy}
        return Response(text, media_type=MediaType.HTML, headers=headers)

    return [openapi, docs]

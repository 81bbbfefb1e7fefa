"""The API described: as OpenAPI 3.1 for programs, and as one plain page for people.

Both are made once, from the table of paths and the structs themselves. The page loads nothing
from anywhere, so it is there where there is no internet.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import MediaType, Response, get
from litestar.handlers import BaseRouteHandler

from protocols.bills.api import Problem
from switch.net.http.endpoints import Endpoint
from switch.net.http.problems import MEDIA_TYPE, Fault

VERSION = "1.0"
_PATH_NAME = re.compile(r"\{(\w+)\}")
ALWAYS = (Fault.HEADER, Fault.UNAUTHORIZED, Fault.AWAY)
_WITH_BODY = (Fault.BODY, Fault.TOO_SLOW, Fault.TOO_LARGE)
_SCHEMAS = "#/components/schemas/{name}"
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1d1d1f;background:#fff}code,pre{font:14px/1.4 ui-monospace,monospace}"
    "h2{border-top:1px solid #ccc;padding-top:1.5rem;font-size:1.1rem}table{border-collapse:"
    "collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#1d1d1f}a{color:#8cf}}"
)


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document (OAS 3.1.0)."""
    listed = list(endpoints)
    types = {each.answers for each in listed if each.answers is not None}
    types |= {each.asked for each in listed if each.asked is not None}
    ordered: list[type[msgspec.Struct]] = sorted(types | {Problem}, key=_name)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for each in listed:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "citycard: bills and counters",
            "version": VERSION,
            "description": "Amounts are whole minor units. Refusals are RFC 9457 problems.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"apiKey": []}],
    }


def _name(of: type[msgspec.Struct]) -> str:
    return of.__name__


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    parameters = [_parameter(name, "path") for name in _PATH_NAME.findall(endpoint.path)]
    parameters += [_parameter(name, "query") for name in endpoint.query]
    parameters.append(_header("X-Budget-Ms", "Milliseconds that the caller waits", required=False))
    if endpoint.once:
        words = "Names this request: a repeat of it is answered as it was"
        parameters.append(_header("Idempotency-Key", words, required=True))
    responses = {str(endpoint.status): _done(endpoint)}
    by_status: dict[int, list[str]] = {}
    for fault in (*ALWAYS, *(_WITH_BODY if endpoint.asked else ()), *endpoint.faults):
        by_status.setdefault(fault.status, []).append(fault.value[2])
    for status, titles in sorted(by_status.items()):
        responses[str(status)] = _content(Problem, "; ".join(titles), MEDIA_TYPE)
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _operation_id(endpoint),
        "parameters": parameters,
        "responses": responses,
    }
    if endpoint.asked is not None:
        body = _content(endpoint.asked, "")
        operation["requestBody"] = {"required": True, "content": body["content"]}
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = _PATH_NAME.sub("", endpoint.path.removeprefix("/v1/")).replace("//", "/").rstrip("/")
    one = "_one" if endpoint.path.endswith("}") else ""
    return f"{endpoint.method.lower()}_{words.replace('/', '_').replace('-', '_')}{one}"


def _done(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.answers is None:
        return {"description": "Done", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return _content(endpoint.answers, "Done")


def _parameter(name: str, where: str) -> dict[str, Any]:
    schema = {"type": "string"}
    return {"name": name, "in": where, "required": True, "schema": schema}


def _header(name: str, words: str, *, required: bool) -> dict[str, Any]:
    schema = {"type": "string"}
    return {
        "name": name, "in": "header", "required": required, "description": words, "schema": schema
    }  # fmt: skip


def _content(
    of: type[msgspec.Struct], words: str, media_type: str = "application/json"
) -> dict[str, Any]:
    reference = {"$ref": _SCHEMAS.format(name=of.__name__)}
    return {"description": words, "content": {media_type: {"schema": reference}}}


def page(described: dict[str, Any]) -> str:
    """The same for people: every path with its fields, and what each field takes."""
    schemas = described["components"]["schemas"]
    parts = [
        f"<h1>{html.escape(described['info']['title'])}</h1>",
        f"<p>{html.escape(described['info']['description'])} Keys go into "
        "<code>Authorization: Bearer</code>. The same as "
        '<a href="/openapi.json">OpenAPI</a>.</p>',
    ]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{html.escape(operation['summary'])}.</p>")
            body = operation.get("requestBody")
            if body is not None:
                parts.append(_fields("Body", schemas[_named(body["content"])]))
            rows = (
                f"<tr><td>{status}</td><td>{html.escape(one['description'])}</td></tr>"
                for status, one in operation["responses"].items()
            )
            parts.append(f"<h3>Answers</h3><table>{''.join(rows)}</table>")
            done = next(iter(operation["responses"].values()))
            if "application/json" in done["content"]:
                parts.append(_fields("Answer", schemas[_named(done["content"])]))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>citycard API</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _fields(title: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = (
        f"<tr><td><code>{html.escape(name)}</code></td>"
        f"<td>{html.escape(str(field.get('type', 'object')))}"
        f"{'' if name in required else ', may be left out'}</td>"
        f"<td>{html.escape(field.get('description', ''))}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return f"<h3>{title}</h3><table>{''.join(rows)}</table>"


def _named(content: dict[str, Any]) -> str:
    reference: str = next(iter(content.values()))["schema"]["$ref"]
    return reference.rpartition("/")[2]


def description_routes(endpoints: Iterable[Endpoint]) -> list[BaseRouteHandler]:
    """`/openapi.json` and `/docs`, which need no key: there is no secret in them."""
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

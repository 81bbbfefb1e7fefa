"""Every path, tried by every role: who may and who may not is the table's, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from switch.console.endpoint import READERS, ROLES, Endpoint
from switch.console.endpoints import ENDPOINTS
from switch.console.life import ACT_ROLES

if TYPE_CHECKING:
    import httpx

    from tests.switch.console.conftest import Served

NOWHERE = {
    "ref": "0123456789", "other": "abcdef0123", "rule_id": "no_such_rule", "name": "no_such_list",
    "id": "999999999", "reference": "999999999", "file": "index.html",
}  # fmt: skip


def path_of(endpoint: Endpoint) -> str:
    return endpoint.path.format_map(NOWHERE)


def asked(client: httpx.Client, endpoint: Endpoint) -> httpx.Response:
    """A request that is whole, about what there is not."""
    if not endpoint.takes_body:
        return client.request(endpoint.method, path_of(endpoint))
    headers = {"content-type": endpoint.asked_type}
    if endpoint.asked_type != "application/json":
        content = endpoint.example
        return client.request(endpoint.method, path_of(endpoint), content=content, headers=headers)
    return client.request(endpoint.method, path_of(endpoint), json=endpoint.example)


@pytest.mark.parametrize("role", [*ROLES, ""])
def test_who_may_do_what(served: Served, role: str) -> None:
    with served.client(role) as client:
        for endpoint in ENDPOINTS:
            answer = asked(client, endpoint)
            told = (endpoint.method, endpoint.path, answer.status_code, answer.text)
            if not role:
                assert answer.status_code == 401, told
                assert answer.headers["www-authenticate"] == "Bearer"
            elif role in endpoint.roles:
                assert answer.status_code in (200, 201, 202, 404, 409, 422), told
            else:
                assert answer.status_code == 403, told
                assert set(answer.json()["roles"]) == endpoint.roles
                assert f"{role}.one has {role}" in answer.json()["detail"]
            if not answer.is_success:
                assert answer.headers["content-type"] == "application/problem+json"


def test_roles_of_acts_are_those_of_the_ledger(served: Served) -> None:
    of_ledger: dict[str, set[str]] = {}
    for row in served.fetch("select act, roles from ledger.ruleset_move"):
        of_ledger.setdefault(row["act"], set()).update(row["roles"])
    del of_ledger["retire"]  # what promoting another one does
    assert {name: set(roles) for name, roles in ACT_ROLES.items()} == of_ledger


def test_whatever_is_read_may_be_read_by_every_role() -> None:
    private = {each.path for each in ENDPOINTS if each.method == "GET" and each.roles != READERS}
    assert private == {"/v1/trail"}
    assert all(each.roles <= READERS and each.roles for each in ENDPOINTS)
    changing = [each for each in ENDPOINTS if each.method != "GET"]
    harmless = {each.path for each in changing if "viewer" in each.roles}
    assert harmless == {"/v1/rulesets/check"}

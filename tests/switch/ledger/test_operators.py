from __future__ import annotations

import asyncpg
import pytest

from switch.ledger import bridge, operators, rulesets
from switch.ledger.operators import NotAllowed, Operator, OperatorRefused
from tests.switch.ledger.rulesets_staged import numbered_entropy


async def test_the_life_of_a_token(connection: bridge.Connection) -> None:
    entropy = numbered_entropy()
    token = await operators.add(connection, "ada", ["approver", "author"], "root", entropy)
    assert await operators.find(connection, token) == Operator("ada", ("author", "approver"))
    (stored,) = await connection.fetch("select token_hash from ledger.operator")
    assert stored["token_hash"] == operators.hash_of(token)
    for wrong in (
        "",
        "cco_",
        token[:-1],
        token + "=",
        token[:-1] + "\n",
        token.upper(),
        "x" * 9_999,
    ):
        assert await operators.find(connection, wrong) is None
    other = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    assert await operators.find(connection, other) is None
    with pytest.raises(OperatorRefused, match="revoke it first"):
        await operators.add(connection, "ada", ["viewer"], "root", entropy)
    assert await operators.revoke(connection, "ada", "root")
    assert await operators.find(connection, token) is None
    assert not await operators.revoke(connection, "ada", "root")
    # the same person under the same name, for approvals and authorship go by it
    again = await operators.add(connection, "ada", ["auditor"], "root", entropy)
    assert again != token
    assert await operators.find(connection, token) is None
    assert await operators.find(connection, again) == Operator("ada", ("auditor",))
    (shown,) = await operators.listed(connection)
    assert (shown.name, shown.roles, shown.revoked_at) == ("ada", ("auditor",), None)
    acts = [event.act for event in await rulesets.trail(connection, subject="operator ada")]
    assert acts == ["operator_add", "operator_revoke", "operator_add"]
    assert token.split("_", 2)[2] not in repr(await rulesets.trail(connection))


one_backend = pytest.mark.parametrize("anyio_backend", ["asyncio"])

WRONG = [
    ("Ada", ["author"], "root"),
    ("a", ["author"], "root"),
    ("ada lovelace", ["author"], "root"),
    ("a" * 41, ["author"], "root"),
    ("a6222021234567890128", ["author"], "root"),
    ("init", ["author"], "root"),
    ("switch", ["author"], "root"),
    ("ada", [], "root"),
    ("ada", ["author", "owner"], "root"),
    ("ada", ["author"], ""),
    ("ada", ["author"], "ro\not"),
]


@one_backend
async def test_who_cannot_be_an_operator(connection: bridge.Connection) -> None:
    for name, roles, by in WRONG:
        with pytest.raises(OperatorRefused, match=";") as refused:
            await operators.add(connection, name, roles, by, numbered_entropy())
        assert "6222021234567890128" not in str(refused.value)
    assert await operators.listed(connection) == []


def test_a_role_is_needed() -> None:
    operators.require(Operator("ada", ("author", "viewer")), "approver", "author")
    with pytest.raises(NotAllowed, match="approver or auditor, and ada has author"):
        operators.require(Operator("ada", ("author",)), "approver", "auditor")


@one_backend
async def test_the_ledger_knows_no_other_roles(connection: bridge.Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(
            "insert into ledger.operator (name, roles, token_hash, created_by) "
            "values ('ada', '{owner}', sha256('x'), 'test')"
        )

"""Reports over HTTP: made from the stored result when somebody looks, and nothing else is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.switch.console.conftest import empty_result

if TYPE_CHECKING:
    from tests.switch.console.conftest import Served


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One is enough: drawing takes seconds, and knows nothing of a backend."""
    return "asyncio"


def test_a_report_is_made_when_somebody_looks(served: Served) -> None:
    result = empty_result(served.live)
    (row,) = served.fetch(
        "insert into ledger.backtest (hash, from_date, to_date, closed_loop, actor, state, result)"
        " values ($1, $2, $2, false, 'x', 'done', $3::jsonb) returning backtest_id",
        served.live,
        result.from_date,
        msgspec.json.encode(result).decode(),
    )
    path = f"/v1/backtests/{row['backtest_id']}/report"
    with served.client() as stranger:
        assert stranger.get(f"{path}/").status_code == 401
    with served.client("viewer") as client:
        page = client.get(f"{path}/")
        assert page.status_code == 200, page.text
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "nothing" in page.text
        assert (
            msgspec.json.decode(client.get(f"{path}/result.json").content, type=type(result))
            == result
        )
        named = sorted(set(re.findall(r'(?:href|src)="([a-z0-9_][\w.-]+)"', page.text)))
        for name in named:
            assert client.get(f"{path}/{name}").status_code == 200, name
        for name in ("nothing.csv", "..%2f..%2fetc%2fpasswd", "result.exe", ".hidden"):
            assert client.get(f"{path}/{name}").status_code == 404, name
        assert client.get("/v1/backtests/99999/report/").status_code == 404
        # a ledger that was made anew counts its backtests from 1 again
        other = msgspec.structs.replace(result, title="another ledger's")
        served.fetch(
            "update ledger.backtest set result = $2::jsonb where backtest_id = $1",
            row["backtest_id"],
            msgspec.json.encode(other).decode(),
        )
        assert "another ledger" in client.get(f"{path}/").text

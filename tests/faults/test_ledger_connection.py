"""The connection to Postgres is cut when a posting has committed and nobody knows it yet."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.faults.proxy import LedgerProxy, proxied

CUTS = 5


def test_connection_cut_between_statement_and_answer(
    postgres, database, life_setting, life, judged, patiently, faults
):
    staged, cuts = life_setting(database), CUTS * faults
    proxy = LedgerProxy(str(postgres.socket_directory / ".s.PGSQL.5432"))
    with proxied(proxy):
        database_name = urlsplit(database).path.lstrip("/")
        through = staged.at(f"postgresql://citycard@127.0.0.1:{proxy.port}/{database_name}")
        with through.serving(workers=2) as ready:
            tills = life(staged, ready.links["retail-1"], "--rate", "60")
            tills.approved(20)
            for cut in range(1, cuts + 1):
                proxy.cut_next()
                patiently(lambda cut=cut: proxy.cuts == cut)
                tills.approved(5)
            summary = tills.stop()
    assert not summary.mismatched
    judged(tills, "connection cut between commit and answer", proxy.cuts)

"""Each check of the audit finds what it is for: rows are broken by hand, round the triggers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import anyio
import pytest

from switch.ledger import bridge
from switch.ledger.audit import AuditReport, audit

CAPS = {"T0": 1000, "T1": 5000, "T2": 5000}
CHECKS = [
    "purse_balance", "purse_floor", "purse_held", "month_totals", "week_totals",
    "lifetime_totals", "spent", "position",
    "approval_moved", "transfer_explained", "one_effect_per_key", "balance_cap", "ruleset",
    "shard", "directory", "trial_balance", "trust_account", "days_kept", "deadline", "reversal",
    "hold_resolved_once", "tombstone", "rule_effects",
]  # fmt: skip
TOTALS = ["month_totals", "week_totals", "lifetime_totals"]


@pytest.fixture
async def used(books: Any, tomorrow: Any) -> Any:
    """A ledger with two days of loads, purchases, declines and two reversals of one card.

    The other card has a hold open, one completed, one cancelled, a pending load and one that
    was confirmed; a sale was refunded, one is in suspense, one was of another issuer's card,
    and one was reversed before it came.
    """
    first, second = await books.issue(2)
    await books.issue(1, shard=2)
    await books.posted(books.load(first, 900), books.load(second, 800))
    a, b = await books.posted(books.purchase(first, 100), books.purchase(first, 70))
    await books.posted(books.reversal(first, a, 100), books.reversal(first, b, 70))
    await books.posted(books.purchase(second, 30), books.decline(second, 5000))
    await books.posted(books.load(first, 50), books.decline(None, 1), day=tomorrow)
    await lived(books, second)
    # the reversal of the last month's purchase gives no count and no total back
    await books.posted(books.purchase(first, 11), day=books.day)
    return books


async def lived(books: Any, card: Any) -> None:
    """Holds, pending loads, suspense, another issuer's card and a tombstone; 30 in all spent."""
    _, completed, cancelled = await books.posted(
        *(books.preauthorization(card, minor) for minor in (21, 22, 23))
    )
    await books.posted(books.completion(card, completed, 20), books.cancel(card, cancelled, 23))
    _, confirmed = await books.posted(books.load_pending(card, 31), books.load_pending(card, 32))
    await books.posted(books.load_confirmed(card, confirmed, 32))
    (sold,) = await books.posted(books.purchase(card, 12))
    await books.posted(books.given_back(card, sold, 7), books.given_back(card, sold, 5))
    suspended = books.purchase(card, 13, purse=0)
    suspended.spent_count = suspended.spent_minor = 0
    suspended.transfers = [(books.suspense, books.acquirer, 13)]
    strange = books.decline(None, 14, approved_minor=14)
    strange.outcome, strange.transfers = "approved", [(books.intercity, books.acquirer, 14)]
    tombstone = books.decline(card, 15, kind="tombstone")
    tombstone.outcome = "reversed_before"
    await books.posted(suspended, strange, tombstone)
    await books.posted(
        books.decline(
            card, 16, rule_results=b"{}",
            effects={
                "listings": [{
                    "list": "clones", "field": "card_id", "value": "1", "rule_id": "r",
                    "until_us": 9,
                }],
                "reviews": [{"queue": "fraud", "rule_id": "r"}],
                "tags": [{"tag": "odd", "rule_id": "r"}],
            },
        )
    )  # fmt: skip


async def findings(books: Any, **terms: Any) -> dict[str, list[str]]:
    report = await audit(books.connection, **terms)
    for check in report.checks:
        assert check.findings == len(check.first), "few enough to be all shown"
        assert not re.search(r"\d{13}", " ".join(check.first))
    return {check.name: check.first for check in report.checks if check.findings}


async def breaks(books: Any, script: str) -> None:
    """Run statements with triggers off, as somebody with a grudge and a superuser's password."""
    await books.connection.execute(
        f"set session_replication_role = replica; {script}; set session_replication_role = origin"
    )


async def test_a_sound_ledger_is_clean_and_everything_was_examined(used: Any) -> None:
    report = await audit(used.connection, balance_caps_minor=CAPS)
    assert report.clean, report
    examined = {check.name: check.examined for check in report.checks}
    assert all(examined[name] for name in CHECKS), "a check of nothing proves nothing"
    assert all(check.invariant.endswith(".") for check in report.checks)


async def test_an_empty_ledger_is_clean(books: Any) -> None:
    assert (await audit(books.connection)).clean


ANY_LOAD = "(select min(authorization_id) from ledger.authorization where kind = 'load')"
FIRST_PURSE = "(select min(account_id) from ledger.purse where balance_minor > 0) and purse = 2"
BROKEN: list[tuple[Sequence[str], str, str]] = [
    # money moved from one purse to another, without a transfer
    (
        ["purse_balance"],
        "update ledger.purse set balance_minor = case when account_id ="
        " (select min(account_id) from ledger.purse where balance_minor > 0)"
        " then balance_minor + 1 else balance_minor - 1 end where balance_minor > 0",
        r"account \d+ purse 2 holds \d+, its transfers give \d+",
    ),
    # a purse gone, its transfers still there
    (
        ["purse_balance", "trial_balance", "trust_account"],
        f"delete from ledger.purse where account_id = {FIRST_PURSE}",
        r"in a purse that does not exist: account \d+ purse 2",
    ),
    (
        ["rule_effects"],
        "update ledger.tag set authorization_id = -1;"
        "update ledger.review set at_us = at_us + 1;"
        "update ledger.authorization set rule_results = ''",
        r"tag of authorization -1 in shard 1, which is not there",
    ),
    (
        ["rule_effects"],
        "update ledger.review set card_id = card_id + 1",
        r"review of authorization \d+ is of another day, card or moment",
    ),
    (
        ["rule_effects"],
        "update ledger.authorization set rule_results = '' where rule_results <> ''",
        r"tag of authorization \d+, which no rule was asked about",
    ),
    (
        ["purse_floor"],
        "alter table ledger.purse drop constraint purse_check;"
        "alter table ledger.purse drop constraint purse_floor_minor_check;"
        f"update ledger.purse set floor_minor = balance_minor + 1 where account_id = {FIRST_PURSE}",
        r"has \d+ available, its floor is \d+",
    ),
    (
        ["purse_held"],
        "update ledger.hold set amount_minor = 10 where status = 'open' and amount_minor = 21;"
        "update ledger.authorization set approved_minor = 10 where approved_minor = 21",
        r"has 21 held, its open holds are 10",
    ),
    (
        ["purse_held"],
        f"update ledger.purse set held_minor = 10 where account_id = {FIRST_PURSE}",
        r"has 10 held, its open holds are 0",
    ),
    (
        ["month_totals"],
        f"update ledger.purse set month_count = month_count + 1 where account_id = {FIRST_PURSE}",
        r"payments, .* its rows give",
    ),
    (
        ["month_totals"],
        "update ledger.purse set month_minor = month_minor + 1 where month_minor = 50",
        r"says 3 payments, 51 spent in 2026-03-01, its rows give 3 and 50",
    ),
    (
        ["month_totals"],
        "update ledger.purse set month = '2026-02-01' where month_minor = 50",
        r"has totals of 2026-02-01 and spending of 2026-03-01",
    ),
    (
        ["spent", *TOTALS],
        "update ledger.authorization set spent_minor = 29 where kind = 'purchase'"
        " and approved_minor = 30",
        r"\(purchase, approved\) approved 30 and counts as 1 payments, 29 spent",
    ),
    (
        ["spent", *TOTALS],
        "update ledger.authorization set spent_minor = -8 where kind = 'refund'"
        " and approved_minor = 7",
        r"\(refund, approved\) approved 7 and counts as 0 payments, -8 spent",
    ),
    (
        ["position"],
        "update ledger.position set transfer_count = transfer_count + 1"
        " where settlement_account_id = 1 and business_date = '2026-03-31'",
        r"settlement account 1 on 2026-03-31 in shard 1 stands at",
    ),
    (
        ["position", "trial_balance", "trust_account"],
        "delete from ledger.position where business_date = '2026-04-01'",
        r"stands at debit 0 credit 0 count 0, its transfers give 50",
    ),
    (
        ["approval_moved"],
        f"update ledger.authorization set approved_minor = 901 where authorization_id = {ANY_LOAD}",
        r"\(load, approved\) approved 901 and moved or held 900",
    ),
    (
        ["approval_moved"],
        "update ledger.authorization set outcome = 'fault', approved_minor = 0"
        f" where authorization_id = {ANY_LOAD}",
        r"\(load, fault\) approved 0 and moved or held 900",
    ),
    (
        ["approval_moved", "transfer_explained"],
        f"delete from ledger.authorization where authorization_id = {ANY_LOAD};"
        "update ledger.authorization set approved_minor = 801 where approved_minor = 800",
        r"approved 801 and moved or held 800",
    ),
    (
        ["approval_moved"],
        "update ledger.authorization set approved_minor = 20 where approved_minor = 21",
        r"\(preauthorization, approved\) approved 20 and moved or held 21",
    ),
    (
        ["approval_moved"],
        "update ledger.authorization set approved_minor = 22"
        " where kind = 'preauthorization_cancel'",
        r"\(preauthorization_cancel, approved\) approved 22 and moved or held 23",
    ),
    (
        ["transfer_explained"],
        f"delete from ledger.authorization where authorization_id = {ANY_LOAD}",
        r"transfer \d+ on 2026-03-31 has no authorization in its shard and day",
    ),
    (
        ["transfer_explained"],
        "update ledger.transfer set currency = '840' where amount_minor = 900",
        r"another currency or kind",
    ),
    (
        ["transfer_explained", "purse_balance"],
        "update ledger.transfer set credit_account_id = credit_account_id + 15"
        " where amount_minor = 900",
        r"moves another purse than that of authorization",
    ),
    (
        ["transfer_explained", "position"],
        "update ledger.transfer set debit_account_id = 999 where amount_minor = 900",
        r"names settlement account 999, which does not exist",
    ),
    (
        ["transfer_explained"],
        "update ledger.authorization set kind = 'load' where kind = 'load_pending'"
        " and approved_minor = 31; update ledger.transfer set kind = 'load'"
        " where kind = 'load_pending' and amount_minor = 31;"
        "update ledger.hold set authorization_id = (select authorization_id from"
        " ledger.authorization where kind = 'load_pending') where purpose = 'load'",
        r"moves from AGENT to PENDING, which a load does not",
    ),
    (
        ["transfer_explained", "spent"],
        "update ledger.authorization set purse = 1 where purse = 0;",
        r"moves from SUSPENSE to ACQ, which a purchase does not",
    ),
    (
        ["one_effect_per_key"],
        "update ledger.authorization set key = (select key from ledger.authorization"
        f" where authorization_id = {ANY_LOAD}) where business_date = '2026-04-01'"
        " and kind = 'load'",
        r"authorizations \d+ and \d+ on 2026-04-01 are approved under one idempotency key",
    ),
    (
        ["deadline"],
        "update ledger.authorization set deadline_at_us = posted_at_us - 7"
        f" where authorization_id = {ANY_LOAD}",
        r"was approved 7 us after its deadline and is not reversed",
    ),
    (
        ["reversal"],
        "update ledger.authorization set original_id = (select min(original_id)"
        " from ledger.authorization where kind = 'reversal') where kind = 'reversal'",
        r"approved 100 and 170 is given back",
    ),
    (
        ["reversal", "approval_moved", *TOTALS],
        "update ledger.authorization set approved_minor = 11, spent_minor = 11"
        " where kind = 'purchase' and approved_minor = 12",
        r"approved 11 and 12 is given back",
    ),
    (
        ["reversal"],
        "update ledger.authorization set original_id = (select authorization_id"
        " from ledger.authorization where approved_minor = 21) where kind = 'refund'"
        " and approved_minor = 7",
        r"is a preauthorization and is voided, refunded or adjusted",
    ),
    (
        ["hold_resolved_once"],
        "update ledger.hold set resolved_by = (select resolved_by from ledger.hold"
        " where status = 'completed' and purpose = 'load') where status = 'completed'",
        r"authorization \d+ resolves 2 holds",
    ),
    (
        ["hold_resolved_once"],
        "alter table ledger.hold drop constraint hold_check;"
        "update ledger.hold set resolved_by = 999 where status = 'open' and amount_minor = 21",
        r"hold \d+ is open and is resolved by authorization 999",
    ),
    (
        ["hold_resolved_once", "approval_moved"],
        f"update ledger.hold set hold_id = {ANY_LOAD} where amount_minor = 22",
        r"hold \d+ was opened by no approval of account \d+",
    ),
    (
        ["hold_resolved_once"],
        f"update ledger.hold set authorization_id = {ANY_LOAD} where amount_minor = 22",
        r"which is no approved preauthorization of account \d+",
    ),
    (
        ["hold_resolved_once"],
        f"update ledger.hold set resolved_by = {ANY_LOAD} where amount_minor = 22",
        r"is completed by authorization \d+, which is no approval of account \d+",
    ),
    (
        ["hold_resolved_once", "approval_moved"],
        "update ledger.hold set amount_minor = 19 where amount_minor = 22",
        r"hold \d+ has 19 and is completed with 20",
    ),
    (
        ["tombstone"],
        "update ledger.authorization set key = (select key from ledger.authorization"
        " where kind = 'tombstone') where business_date = '2026-04-01' and kind = 'load'",
        r"is approved, and tombstone \d+ on 2026-03-31 says that it was reversed before it came",
    ),
    (
        ["balance_cap"],
        "update ledger.account set tier = 'T1'",
        r"load \d+ on 2026-03-31 took account \d+ to \d+, the cap of its tier is 10",
    ),
    (
        ["ruleset"],
        f"update ledger.authorization set ruleset = '' where authorization_id = {ANY_LOAD}",
        r"names no ruleset",
    ),
    (
        ["shard"],
        "insert into ledger.account (shard, account_id, tier) values (1, 99999998, 'T0')",
        r"account 99999998 of account 99999998 is in shard 1",
    ),
    (
        ["shard"],
        "insert into ledger.purse (shard, account_id, purse) values (2, 99999998, 1)",
        r"purse 1 of shard 2 names account 99999998, which does not exist there",
    ),
    (
        ["shard"],
        "update ledger.authorization set account_id = 99999997"
        " where outcome = 'insufficient_funds' and account_id <> 0",
        r"authorization \d+ of shard 1 names account 99999997, which does not exist there",
    ),
    (
        ["directory"],
        "delete from ledger.medium where card_id = (select min(card_id) from ledger.medium)",
        r"card \d+ of account \d+ is in no directory entry",
    ),
    (
        ["directory"],
        "delete from ledger.card where card_id = (select min(card_id) from ledger.card)",
        r"leads to card \d+ of shard \d, which does not exist",
    ),
    (
        ["directory"],
        "update ledger.medium set account_id = account_id + 4"
        " where card_id = (select min(card_id) from ledger.medium)",
        r"the directory leads card \d+ to account \d+, and it belongs to \d+",
    ),
    (
        ["position", "trial_balance", "trust_account"],
        "insert into ledger.settlement_account values (900, 'FEE', 'operator');"
        "insert into ledger.position values (1, '2026-03-31', 900, 0, 0, 5, 1)",
        r"on balance",
    ),
    (
        ["days_kept"],
        "alter table ledger.transfer detach partition ledger.transfer_20260402",
        r"table transfer_20260402 is neither attached nor in the archive",
    ),
]


@pytest.mark.parametrize(("expected", "script", "sentence"), BROKEN)
async def test_what_is_broken_is_found_and_nothing_else(
    used: Any, expected: Sequence[str], script: str, sentence: str
) -> None:
    caps = {**CAPS, "T1": 10} if "balance_cap" in expected else CAPS
    await breaks(used, script)
    found = await findings(used, balance_caps_minor=caps)
    assert found.keys() == {*expected}, found
    assert any(re.search(sentence, line) for lines in found.values() for line in lines), found


def test_every_check_is_broken_above_or_below() -> None:
    assert {name for names, _, _ in BROKEN for name in names} == {*CHECKS}


async def test_money_for_the_operator_stays_in_the_trust_account(used: Any) -> None:
    """A fee taken from a purse is owed to nobody any more; it is counted as earned."""
    (card,) = await used.issue()
    await used.connection.execute(
        "insert into ledger.settlement_account values (900, 'FEE', 'operator')"
    )
    await used.posted(used.load(card, 100))
    fee = used.purchase(card, 10)
    fee.transfers = [(card.account_id * 16 + 2, 900, 10)]
    await used.posted(fee)
    assert await findings(used) == {}
    await breaks(used, "update ledger.position set credit_minor = 9 where credit_minor = 10")
    assert "income 9, control" in (await findings(used))["trust_account"][0]


async def test_a_void_taken_back_frees_its_sale_for_another(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100))
    (sold,) = await books.posted(books.purchase(card, 40))
    (void,) = await books.posted(books.given_back(card, sold, 40, kind="void"))
    undoing = books.purchase(card, 40, kind="reversal", original_id=void)
    undoing.spent_count = 0
    await books.posted(undoing)
    await books.posted(books.given_back(card, sold, 40))
    assert await findings(books, balance_caps_minor=CAPS) == {}
    await books.posted(books.given_back(card, sold, 1))
    assert (await findings(books)).keys() == {"reversal"}


async def test_a_tip_may_be_given_back_with_its_sale(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100))
    (sold,) = await books.posted(books.purchase(card, 40))
    tip = books.purchase(card, 5, kind="adjustment", original_id=sold)
    tip.spent_count = 0
    await books.posted(tip)
    await books.posted(books.reversal(card, sold, 45))
    assert await findings(books) == {}


async def test_a_pending_load_counts_towards_the_cap_until_it_goes_back(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 600))
    pending, _ = await books.posted(books.load_pending(card, 400), books.load(card, 1))
    await books.posted(books.load_confirmed(card, pending, 400))
    assert await findings(books, balance_caps_minor=CAPS) == {}
    await books.posted(books.purchase(card, 300))
    (again,) = await books.posted(books.load_pending(card, 299))
    back = books.load_pending(card, 299)
    back.kind, back.opens, back.original_id = "hold_expiry", None, again
    back.resolves, back.transfers = (again, "expired"), [(books.pending, books.agent, 299)]
    await books.posted(back)
    await books.posted(books.load_pending(card, 299))
    assert await findings(books, balance_caps_minor=CAPS) == {}
    await books.posted(books.load_pending(card, 1))
    assert (await findings(books, balance_caps_minor=CAPS)).keys() == {"balance_cap"}


async def test_a_reversal_of_the_wrong_thing_is_found(used: Any) -> None:
    rows = await used.connection.fetch(
        "select authorization_id, account_id, kind from ledger.authorization order by 1"
    )
    ids = {kind: [row[0] for row in rows if row["kind"] == kind] for kind in ("load", "reversal")}
    first, _ = ids["reversal"]
    wrong = "update ledger.authorization set {} where authorization_id = {}"
    await breaks(used, wrong.format("original_id = 999999", first))
    assert "nothing approved that can be" in (await findings(used))["reversal"][0]
    await breaks(used, wrong.format(f"original_id = {ids['reversal'][1]}", first))
    assert "nothing approved that can be" in (await findings(used))["reversal"][0]


async def test_more_given_back_than_approved_is_found(used: Any) -> None:
    await breaks(
        used,
        "update ledger.authorization set approved_minor = 90"
        " where kind = 'purchase' and approved_minor = 100",
    )
    (line,) = (await findings(used))["reversal"]
    assert re.search(r"approved 90 and 100 is given back", line)


async def test_a_late_approval_that_was_reversed_is_sound(used: Any) -> None:
    await breaks(
        used,
        "update ledger.authorization set deadline_at_us = posted_at_us - 7"
        " where kind = 'purchase' and approved_minor = 100",
    )
    assert await findings(used) == {}


async def test_a_reversed_purchase_may_lift_a_purse_above_its_cap(used: Any) -> None:
    (card,) = await used.issue()
    await used.posted(used.load(card, 1000))
    (bought,) = await used.posted(used.purchase(card, 400))
    await used.posted(used.load(card, 400))
    await used.posted(used.reversal(card, bought, 400))
    assert await findings(used, balance_caps_minor=CAPS) == {}
    await used.posted(used.load(card, 1))
    assert (await findings(used, balance_caps_minor=CAPS)).keys() == {"balance_cap"}


async def test_without_caps_that_check_is_left_out(used: Any) -> None:
    report = await audit(used.connection)
    assert {*CHECKS} - {check.name for check in report.checks} == {"balance_cap"}


async def test_days_limit_the_checks_of_rows_and_not_the_sums(used: Any) -> None:
    await breaks(
        used,
        "update ledger.authorization set ruleset = '' where business_date = '2026-03-31'"
        " and kind = 'load';"
        "update ledger.purse set balance_minor = balance_minor + 1"
        f" where account_id = {FIRST_PURSE}",
    )
    assert {"ruleset", "purse_balance"} <= (await findings(used, days=2)).keys()
    newest = await findings(used, days=1)
    assert "ruleset" not in newest
    assert "purse_balance" in newest
    with pytest.raises(ValueError, match="one business day or more"):
        await audit(used.connection, days=0)


async def test_only_the_first_ten_are_listed(books: Any) -> None:
    cards = await books.issue(12)
    await books.posted(*(books.load(card, 1) for card in cards))
    await breaks(books, "update ledger.authorization set ruleset = ''")
    report = await audit(books.connection)
    (check,) = [check for check in report.checks if check.findings]
    assert (check.findings, check.examined, len(check.first)) == (12, 12, 10)


async def test_it_is_valid_under_traffic(books: Any, database: str) -> None:
    """Postings commit between its checks, and its one snapshot doesn't see them."""
    cards = await books.issue(4)
    await books.posted(*(books.load(card, 900) for card in cards))
    auditing = await bridge.connect(database)
    reports: list[AuditReport] = []

    async def spend() -> None:
        while len(reports) < 5:
            await books.posted(*(books.purchase(card, 1) for card in cards))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spend)
        for _ in range(5):
            reports.append(await audit(auditing))
    assert all(report.clean for report in reports), reports
    examined = [check.examined for r in reports for check in r.checks if check.name == "deadline"]
    assert examined == sorted(examined)
    await auditing.close()


async def test_a_day_without_statistics_is_audited_in_time(books: Any) -> None:
    """Nested loops over a partition that the planner takes for empty would take hours."""
    (card,) = await books.issue()
    await books.posted(books.purchase(card, 0))
    columns = await books.connection.fetchval(
        "select string_agg(case attname when 'authorization_id' then 'n' when 'key'"
        " then 'uuid_send(gen_random_uuid())' else attname end, ', ' order by attnum)"
        " from pg_attribute where attrelid = 'ledger.authorization'::regclass and attnum > 0"
    )
    await books.connection.execute(
        f"insert into ledger.authorization select {columns}"
        " from ledger.authorization, generate_series(1000, 40999) n"
    )
    await books.connection.execute("set statement_timeout = '20s'")
    found = await findings(books)
    assert found.keys() == {*TOTALS}


async def test_yesterdays_key_may_not_be_approved_again_and_an_older_one_may(used: Any) -> None:
    (card,) = await used.issue()
    row = used.load(card, 1)
    await used.posted(row, day=used.day - timedelta(days=1))
    await used.posted(used.load(card, 2, key=row.key), day=used.day + timedelta(days=1))
    assert await findings(used) == {}
    await used.posted(used.load(card, 3, key=row.key), day=used.day + timedelta(days=2))
    assert (await findings(used)).keys() == {"one_effect_per_key"}

"""What the spool promises: nothing answered is lost, limits and duplicates are exact for all."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from switch.standin import spool_file as file_module
from switch.standin.policy import Refusal
from switch.standin.rows import Settled, State, Verdict, Withdrawal
from switch.standin.spool import Spool, summarised, switched
from switch.standin.spool_file import SpoolUnusable

CHECKOUT = Path(__file__).parents[3]

WRITER = """
import sys
from pathlib import Path
from switch.config_trouble import StandinPolicy
from switch.standin.rows import Offer
from switch.standin.spool import Spool

path, first, count, group, rows_max = Path(sys.argv[1]), *map(int, sys.argv[2:])
policy = StandinPolicy(enabled=True, amount_max_minor=1000, card_amount_max_minor=10**9,
                       card_count_max=10**6, total_max_minor=200 * 300)
spool = Spool(path, slot=first, rows_max=rows_max)
for start in range(first, first + count, group):
    offers = [Offer(key=n.to_bytes(16, "big"), payload_hash=b"payload!", kind="purchase",
                    segment="transit", medium=b"m" * 16, amount_minor=200, request=b"r",
                    card=b"c", auth_code="A", rrn="R", at_us=n, policy=policy)
              for n in range(start, start + group)]
    for offer, answer in zip(offers, spool.take(offers)):
        if answer.verdict == "taken":
            print(int.from_bytes(offer.key, "big"), flush=True)
"""


def writer(path, first, count, group=1, rows_max=100_000):
    numbers = [str(number) for number in (first, count, group, rows_max)]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), *numbers],
        stdout=subprocess.PIPE, text=True, cwd=CHECKOUT,
    )  # fmt: skip


def verdicts(answers):
    return [answer.verdict for answer in answers]


def reversal(offer, number, of):
    key = of.to_bytes(16, "big")
    return offer(number, kind="reversal", original_key=key, auth_code="")


def test_the_file_is_private_and_synchronous(spool, spool_file, offer):
    spool.take([offer(1)])
    for path in spool_file.parent.glob("standin.sqlite*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    connection = spool._opened()
    assert connection.execute("pragma synchronous").fetchone() == (2,)
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)


def test_a_file_that_others_may_read_is_refused(spool, spool_file):
    spool_file.touch(0o600)
    spool_file.chmod(0o640)
    with pytest.raises(SpoolUnusable, match="chmod 600"):
        spool.look(complete=True)


def test_a_file_of_another_format_is_refused(spool, spool_file):
    spool.look(complete=True)
    spool.close()
    with closing(sqlite3.connect(spool_file)) as connection:
        connection.execute("pragma user_version = 9")
    with pytest.raises(SpoolUnusable, match="another release"):
        spool.look(complete=True)


@pytest.mark.parametrize("group", [1, 16])
def test_after_a_kill_every_answered_row_is_there(spool_file, group):
    process = writer(spool_file, 0, 100_000, group, rows_max=300)
    assert process.stdout is not None
    answered = [int(process.stdout.readline()) for _ in range(60)]
    os.kill(process.pid, signal.SIGKILL)
    answered += [int(line) for line in process.stdout if line.endswith("\n")]
    process.wait(30)
    process.stdout.close()
    with closing(Spool(spool_file, slot=0, rows_max=10)) as spool:
        rows = {int.from_bytes(row.key, "big") for row in spool.page(10_000)}
        assert rows >= set(answered)
        assert spool.look(complete=True).open_rows == len(rows)


def test_two_processes_share_limits_and_keys_exactly(spool_file):
    """Both offer 250 of 400 sales, 100 of them the same, and the total allows 300."""
    processes = [writer(spool_file, 0, 250), writer(spool_file, 150, 250, 10)]
    said = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    taken = said[0] + said[1]
    assert len(taken) == len(set(taken)) == 300
    found = summarised(spool_file)
    assert found.open_rows == 300
    assert [(total.count, total.amount_minor) for total in found.totals] == [(300, 60_000)]


def test_one_transaction_carries_many_answers(spool, offer):
    answers = spool.take([offer(number, card=number) for number in range(1, 101)])
    assert verdicts(answers) == [Verdict.TAKEN] * 100
    assert [answer.auth_code for answer in answers] == [f"A{n:05}" for n in range(1, 101)]
    assert spool.look(complete=True).open_rows == 100


def test_a_repeat_gets_the_stored_answer_and_another_content_none(spool, offer):
    first = spool.take([offer(1, auth_code="FIRST", rrn="R1")])
    again, other = spool.take(
        [offer(1, auth_code="AGAIN", refusal=Refusal.CARD_NOT_SEEN), offer(1, payload_hash=b"o")]
    )
    assert again == msgspec.structs.replace(first[0], verdict=Verdict.STORED)
    assert other.verdict is Verdict.KEY_REUSED
    assert spool.look(complete=True).open_rows == 1


def test_what_is_not_covered_is_not_written(spool, offer):
    answers = spool.take([offer(1, refusal=Refusal.HOTLISTED), offer(2)])
    assert verdicts(answers) == [Refusal.HOTLISTED, Verdict.TAKEN]
    assert [row.key for row in spool.page(9)] == [offer(2).key]


def test_limits_count_from_the_start_of_an_outage_to_its_end(spool, offer, spool_file):
    policy = msgspec.structs.replace(offer(1).policy, card_count_max=2)
    offers = [offer(number, policy=policy) for number in range(1, 6)]
    other_card = offer(9, card=2, policy=policy)
    assert verdicts(spool.take([*offers[:3], other_card])) == [
        Verdict.TAKEN, Verdict.TAKEN, Refusal.CARD_COUNT, Verdict.TAKEN,
    ]  # fmt: skip
    first, *others = spool.page(9)
    spool.settle([Settled(first.id, State.POSTED, "approved", 41)])
    assert verdicts(spool.take([offers[3]])) == [Refusal.CARD_COUNT], "the others are open still"
    spool.settle([Settled(row.id, State.SUSPENSE, "approved", 42) for row in others])
    assert verdicts(spool.take([offers[3]])) == [Verdict.TAKEN]
    assert [total.count for total in summarised(spool_file).totals] == [1]


def test_a_full_spool_takes_nothing_more_not_even_reversals(spool_file, offer):
    with closing(Spool(spool_file, slot=0, rows_max=2)) as spool:
        answers = spool.take([offer(1), offer(2), offer(3), reversal(offer, 4, of=1), offer(1)])
        assert verdicts(answers) == [
            Verdict.TAKEN, Verdict.TAKEN, Refusal.SPOOL_FULL, Refusal.SPOOL_FULL, Verdict.STORED,
        ]  # fmt: skip
        row = spool.page(1)[0]
        spool.settle([Settled(row.id, State.POSTED, "approved", 1)])
        assert verdicts(spool.take([reversal(offer, 4, of=1)])) == [Verdict.TAKEN]


def test_off_holds_for_every_worker_at_once_and_lets_reversals_pass(spool, spool_file, offer):
    assert verdicts(spool.take([offer(1)])) == [Verdict.TAKEN]
    switched(spool_file, on=False)
    answers = spool.take([offer(2), offer(1), reversal(offer, 3, of=1)])
    assert verdicts(answers) == [Refusal.SWITCHED_OFF, Verdict.STORED, Verdict.TAKEN]
    with closing(Spool(spool_file, slot=1, rows_max=9)) as restarted:
        assert not restarted.look(complete=True).switched_on
    switched(spool_file, on=True)
    assert verdicts(spool.take([offer(2)])) == [Verdict.TAKEN]


def test_the_configuration_can_only_narrow(spool_file, offer):
    with closing(Spool(spool_file, slot=0, rows_max=9, switched_on=False)) as spool:
        answers = spool.take([offer(1), reversal(offer, 2, of=1)])
        assert verdicts(answers) == [Refusal.SWITCHED_OFF, Verdict.TAKEN]


def test_a_sale_whose_reversal_came_first_is_refused(spool, offer):
    answers = spool.take([reversal(offer, 2, of=1), offer(1)])
    assert verdicts(answers) == [Verdict.TAKEN, Verdict.REVERSED_BEFORE]


def test_a_repeat_of_a_reversed_sale_is_not_approved_again(spool, offer):
    spool.take([offer(1), reversal(offer, 2, of=1)])
    answers = spool.take([offer(1), reversal(offer, 2, of=1)])
    assert verdicts(answers) == [Verdict.WITHDRAWN, Verdict.STORED]


def test_an_approval_answered_too_late_is_withdrawn_before_its_posting(spool, offer):
    spool.take([offer(1), offer(2)])
    assert spool.take([Withdrawal(offer(1).key, 7)]) == []
    assert [row.key for row in spool.page(9)] == [offer(2).key]
    assert verdicts(spool.take([offer(1)])) == [Verdict.WITHDRAWN]


def test_an_approval_answered_too_late_is_reversed_once_its_posting_began(spool, offer):
    spool.take([offer(1)])
    (row,) = spool.page(9)
    spool.take([Withdrawal(offer(1).key, 7), Withdrawal(offer(1).key, 8)])
    spool.settle([Settled(row.id, State.POSTED, "approved", 41)])
    (late,) = spool.page(9)
    assert (late.kind, late.original_key, late.original_id) == ("late_reversal", row.key, 41)
    assert (late.request, late.card, late.medium) == (row.request, row.card, row.medium)
    assert verdicts(spool.take([offer(1)])) == [Verdict.WITHDRAWN]


def test_a_repeat_that_was_answered_keeps_the_approval(spool, offer):
    spool.take([offer(1)])
    assert verdicts(spool.take([offer(1)])) == [Verdict.STORED]
    spool.take([Withdrawal(offer(1).key, 7)])
    assert spool.look(complete=True).open_rows == 1
    spool.take([Withdrawal(offer(1).key, 7)])
    assert spool.look(complete=True).open_rows == 0


def test_a_withdrawal_of_what_was_never_written_is_nothing(spool, offer):
    assert spool.take([Withdrawal(b"k" * 16, 7), offer(1)])[0].verdict is Verdict.TAKEN


def test_a_look_tells_who_owes(spool, spool_file, offer):
    with closing(Spool(spool_file, slot=1, rows_max=9)) as other:
        assert other.look(complete=True).mediums == frozenset()
        spool.take([offer(1, card=1)])
        assert other.look(complete=False).mediums == {offer(1, card=1).medium}
        spool.take([offer(2, card=2)])
        assert other.look(complete=False).mediums == {offer(1, card=2).medium}
        view = other.look(complete=True)
        assert len(view.mediums) == view.open_rows == 2
        assert view.oldest_at_us == 1_000_000
        spool.settle([Settled(row.id, State.POSTED, "", 1) for row in spool.page(1)])
        assert other.look(complete=True).mediums == {offer(1, card=2).medium}


def test_what_is_long_posted_is_forgotten_and_what_is_refused_is_not(spool, spool_file, offer):
    spool.take([offer(number) for number in (1, 2, 3, 4)])
    first, second, third, _ = spool.page(9)
    spool.settle(
        [
            Settled(first.id, State.POSTED, "approved", 1),
            Settled(second.id, State.REFUSED, "card_closed", 0),
            Settled(third.id, State.SUSPENSE, "approved", 2),
        ]
    )
    spool.prune(3_000_000)
    counts = {count.state: count.rows for count in summarised(spool_file).counts}
    assert counts == {"refused": 1, "suspense": 1, "open": 1}
    assert [row.result for row in summarised(spool_file).refused] == ["card_closed"]


def test_a_failure_is_a_sentence_and_the_next_call_opens_the_file_again(
    spool, spool_file, offer, monkeypatch
):
    monkeypatch.setattr(file_module, "BUSY_SECONDS", 0.01)
    spool.take([offer(1)])
    spool.close()
    with closing(sqlite3.connect(spool_file, isolation_level=None)) as blocking:
        blocking.execute("begin immediate")
        with pytest.raises(SpoolUnusable, match="SQLITE_BUSY") as failed:
            spool.take([offer(2)])
        assert not failed.value.in_doubt
        blocking.execute("rollback")
    assert verdicts(spool.take([offer(2)])) == [Verdict.TAKEN]


def test_a_full_disk_is_in_doubt_only_where_the_commit_failed(spool, offer):
    spool.take([offer(1)])
    pages = spool._opened().execute("pragma page_count").fetchone()[0]
    spool._opened().execute(f"pragma max_page_count = {pages}")
    with pytest.raises(SpoolUnusable, match="SQLITE_FULL") as failed:
        spool.take([offer(2, request=bytes(100_000))])
    assert not failed.value.in_doubt
    assert verdicts(spool.take([offer(2), offer(1)])) == [Verdict.TAKEN, Verdict.STORED]


def test_a_garbled_file_is_a_sentence(spool, spool_file):
    spool_file.touch(0o600)
    spool_file.write_bytes(b"this is not a database at all. " * 500)
    with pytest.raises(SpoolUnusable, match="SQLITE_NOTADB"):
        spool.look(complete=True)

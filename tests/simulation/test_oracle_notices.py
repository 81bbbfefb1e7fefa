"""An oracle that never complains proves nothing: each planted bug must be noticed.

A bug is planted by replacing one function of the switch, or of what the ledger promises, in
this process; then seeds are tried until the oracle names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec
import pytest

from protocols.message import Kind, Outcome, Reply
from switch.admission import Ticket
from switch.ledger import settling
from switch.ledger.forwarding import ForwardState
from switch.ledger.lanes import Lane
from switch.ledger.settling import Settling
from switch.net.upstream import exchange
from switch.net.upstream.reversals import ReversalSender
from switch.pipeline import Pipeline
from switch.posting import Decision, Directed, Followers, Loaded, Posted, Posting
from switch.standin.spool import Spool
from tests.simulation.model_ledger import ModelLedger, ModelRow
from tests.simulation.oracle import judge
from tests.simulation.town import simulate
from tests.simulation.workers import Worker

SEEDS_MAX = 150
FIRST_SEED = {"stand_in_keeps_late_answers": 430, "skip_version_check": 40}
"""Where to begin with what few seeds show: an answer of stand-in must be late first."""

Plant = Callable[[pytest.MonkeyPatch], None]


def answer_before_commit(patch: pytest.MonkeyPatch) -> None:
    decide = Settling.decide

    def hasty(self: Settling, ticket: Ticket, *rest: Any) -> Posting | None:
        posting = decide(self, ticket, *rest)
        if posting is not None and ticket.answered is None:
            ticket.answer(Reply(posting.outcome, posting.approved_minor, 0, posting.auth_code))
        return posting

    patch.setattr(Settling, "decide", hasty)


def skip_version_check(patch: pytest.MonkeyPatch) -> None:
    post = ModelLedger.post

    def careless(
        self: ModelLedger,
        shard: int,
        business_date: date,
        versions: Mapping[int, int],
        *rest: Any,
    ) -> list[Posted]:
        now = {account_id: self.accounts[account_id].version for account_id in versions}
        return post(self, shard, business_date, now, *rest)

    patch.setattr(ModelLedger, "post", careless)


def skip_tombstone(patch: pytest.MonkeyPatch) -> None:
    post = ModelLedger.post

    def forgetful(
        self: ModelLedger,
        shard: int,
        business_date: date,
        versions: Mapping[int, int],
        postings: Sequence[Posting],
        *rest: Any,
    ) -> list[Posted]:
        bare = [msgspec.structs.replace(posting, tombstone_key=b"") for posting in postings]
        return post(self, shard, business_date, versions, bare, *rest)

    patch.setattr(ModelLedger, "post", forgetful)


def lose_clients_reversals(patch: pytest.MonkeyPatch) -> None:
    decide = settling.decide

    def polite(directed: Directed, facts: Loaded, *rest: Any) -> Decision:
        if directed.request.kind is Kind.REVERSAL and directed.request.original is not None:
            return Reply(Outcome.APPROVED)
        return decide(directed, facts, *rest)

    patch.setattr(settling, "decide", polite)


def let_late_approvals_stand(patch: pytest.MonkeyPatch) -> None:
    def settled(self: Settling, ticket: Ticket, _authorization_id: int, _claim: bytes) -> None:
        ticket.settle(Reply(ticket.answered or Outcome.ANSWERED_LATE))

    patch.setattr(Settling, "_reverse", settled)


def guess_in_doubt(patch: pytest.MonkeyPatch) -> None:
    def not_written(self: Settling, ticket: Ticket, *_: Any) -> tuple[bool, Posting | None]:
        ticket.finish(Reply(Outcome.OUTCOME_UNKNOWN))
        return True, None

    patch.setattr(Settling, "_in_doubt_known", not_written)


def give_back_without_end(patch: pytest.MonkeyPatch) -> None:
    followers = ModelLedger._followers

    def none_known(self: ModelLedger, row: ModelRow) -> Followers:
        return msgspec.structs.replace(followers(self, row), changes=())

    patch.setattr(ModelLedger, "_followers", none_known)


def forget_a_ticket(patch: pytest.MonkeyPatch) -> None:
    def nothing(self: Pipeline, _ticket: Ticket, _medium: bytes) -> None:
        return None

    patch.setattr(Pipeline, "_ledger_down", nothing)


def forget_what_was_in_doubt(patch: pytest.MonkeyPatch) -> None:
    keep = Lane._keep_after_loss

    def lose(self: Lane, batch: list[Ticket]) -> None:
        keep(self, [ticket for ticket in batch if not ticket.sent])

    patch.setattr(Lane, "_keep_after_loss", lose)


def never_expire_holds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Worker, "_expire", lambda *_: None)


def stand_in_without_writing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Spool, "_add", lambda *_: None)


def stand_in_keeps_late_answers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Spool, "_withdraw", lambda *_: None)


def never_tell_the_host_of_reversals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReversalSender, "_send", lambda *_: None)


def take_a_silent_host_for_a_decline(patch: pytest.MonkeyPatch) -> None:
    states = dict(exchange.ROW_STATES)
    states[exchange.Verdict.SILENT, False] = ForwardState.DECLINED
    patch.setattr(exchange, "ROW_STATES", states)


def approve_twice_under_two_keys(patch: pytest.MonkeyPatch) -> None:
    """Idempotency lost: a repeat is another message."""
    load_one = ModelLedger._stored

    def sometimes(self: ModelLedger, shard: int, key: bytes, day: date) -> Any:
        return None if len(self.rows) % 3 == 0 else load_one(self, shard, key, day)

    def under_another_day(self: ModelLedger, row: ModelRow) -> None:
        write(self, row)
        self.by_key.pop((row.shard, row.posting.key, row.business_date))

    write = ModelLedger._write
    patch.setattr(ModelLedger, "_stored", sometimes)
    patch.setattr(ModelLedger, "_write", under_another_day)


PLANTED: tuple[Plant, ...] = (
    answer_before_commit,
    skip_version_check,
    skip_tombstone,
    lose_clients_reversals,
    let_late_approvals_stand,
    guess_in_doubt,
    give_back_without_end,
    forget_a_ticket,
    forget_what_was_in_doubt,
    never_expire_holds,
    stand_in_without_writing,
    stand_in_keeps_late_answers,
    never_tell_the_host_of_reversals,
    take_a_silent_host_for_a_decline,
    approve_twice_under_two_keys,
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_the_oracle_notices(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    first = FIRST_SEED.get(plant.__name__, 0)
    for seed in range(first, first + SEEDS_MAX):
        try:
            judge(simulate(seed))
        except AssertionError:
            return
    raise RuntimeError(f"{plant.__name__} went through {SEEDS_MAX} seeds unnoticed")

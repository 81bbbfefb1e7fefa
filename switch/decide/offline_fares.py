"""Records of the purse on a chip, uploaded hours later: posted once, whatever happened since.

The chip was debited at the reader, so neither status, hotlist nor rules are asked (domain
§3.2). What is asked is whether the record can be right:

    same counter, same content   it is posted already: the same answer, or duplicate
    TAC of no chip of ours       refused, no money moves
    same counter, other content  a clone or a replay: suspense
    the purse cannot pay         suspense
    else                         from the chip's purse to the acquirer

A record is the same message wherever it comes from, so only the one that is kept under its
counter is written under its own key: a further one has a key that follows from its content,
and a refused one a key of that once.
"""

from __future__ import annotations

import msgspec

from protocols.message import ChipRecord, ChipVerdict, Kind, Outcome, Reply
from switch.decide.case import Case, approved, declined, refusal
from switch.decide.keys import derived_key
from switch.decide.purses import sale_leg, suspense_legs
from switch.posting import ChipChange, ChipFacts, Decision, Posting, Purse

_NOTHING_KNOWN = ChipFacts()


def offline_fare(case: Case, *, known: bool) -> Decision:
    """The decision on one record; `known` tells whether its card is of this ledger."""
    record = record_of(case)
    if not known:
        key = _key_of_refusal(case, record)
        return refusal(case.directed, case.moment, Outcome.UNKNOWN_CARD, "no such card", key=key)
    chip = case.loaded.chip or _NOTHING_KNOWN
    if chip.stored_digest == record.digest:
        return _posted_before(case, chip, record)
    if record.digest in chip.other_digests:
        return _approved_reply(case, suspense=True)
    if record.verdict is ChipVerdict.WRONG:
        words = "no chip of ours made this record"
        return declined(case, Outcome.TAC_WRONG, words, key=_key_of_refusal(case, record))
    if chip.stored_digest:
        return _further_record(case, record)
    shadow = case.account.purses.get(Purse.CHIP)
    if shadow is None or shadow.available_minor < case.request.amount.amount_minor:
        words = "the purse of the chip cannot have paid this"
        return _in_suspense(case, record, words, key=case.request.key)
    return _from_chip(case, record)


def record_of(case: Case) -> ChipRecord:
    tap = case.request.tap
    assert tap is not None, "an uploaded record is a tap"
    assert tap.record is not None, "an uploaded record has the chip's words"
    return tap.record


def _posted_before(case: Case, chip: ChipFacts, record: ChipRecord) -> Reply:
    """The same batch once more is told the same; another upload, that it is a duplicate."""
    if chip.stored_batch == record.batch:
        return _approved_reply(case, suspense=chip.stored_suspense)
    return _approved_reply(case, duplicate=True)


def _approved_reply(case: Case, *, suspense: bool = False, duplicate: bool = False) -> Reply:
    return Reply(
        Outcome.APPROVED,
        approved_minor=case.request.amount.amount_minor,
        replayed=True,
        suspense=suspense,
        duplicate=duplicate,
    )


def _from_chip(case: Case, record: ChipRecord) -> Posting:
    amount_minor = case.request.amount.amount_minor
    # A ride that cost nothing is a record too: concessions are counted by them.
    legs = (sale_leg(case, Purse.CHIP, amount_minor),) if amount_minor else ()
    return approved(
        case,
        purse=Purse.CHIP,
        transfers=legs,
        explanation="paid by the chip",
        spent_count=1,
        spent_minor=amount_minor,
        chip=ChipChange(record.counter, record.digest, record.batch),
    )


def _further_record(case: Case, record: ChipRecord) -> Decision:
    """Another record under a counter that is taken; once, however often it is sent.

    Where the ledger does not tell by digest what came before, one of the same amount that
    follows the record under this counter is taken to be this one.
    """
    stored, amount_minor = case.loaded.stored, case.request.amount.amount_minor
    if stored is not None and not (case.loaded.chip or _NOTHING_KNOWN).other_digests:
        for change in stored.followers.changes:
            if change.kind is Kind.OFFLINE_FARE and change.approved_minor == amount_minor:
                return _approved_reply(case, suspense=True)
    words = f"another record came under counter {record.counter} of the chip"
    key = _key_of_content(case, record)
    original_id = stored.authorization_id if stored is not None else 0
    return _in_suspense(case, record, words, key=key, original_id=original_id)


def _in_suspense(
    case: Case, record: ChipRecord, words: str, *, key: bytes, original_id: int = 0
) -> Posting:
    """The acquirer carried somebody; what cannot be the holder's debt is for a person to settle."""
    request = case.request
    owner = case.terms.suspense_owners[request.segment]
    amount_minor = request.amount.amount_minor
    posting = approved(
        case,
        kind=Kind.OFFLINE_FARE,
        transfers=suspense_legs(case, amount_minor),
        key=key,
        original_id=original_id,
        explanation=f"{words}: kept in suspense for {owner}",
        chip=ChipChange(record.counter, record.digest, record.batch, suspense=True),
    )
    reply = Reply(
        Outcome.APPROVED,
        approved_minor=amount_minor,
        auth_code=posting.auth_code,
        rrn=posting.rrn,
        suspense=True,
    )
    return msgspec.structs.replace(posting, reply=reply)


def _key_of_refusal(case: Case, record: ChipRecord) -> bytes:
    """Of this once: a record that is refused may be sent again, and is refused again."""
    now = case.moment.now_us.to_bytes(8, "big")
    return derived_key(_key_of_content(case, record) + now, b"chip-refused")


def _key_of_content(case: Case, record: ChipRecord) -> bytes:
    return derived_key(case.request.key + record.digest, b"chip-record")

"""Tells any authorization from its stored row: what was asked, answered, why, what came of it.

It is found by its RRN (12 characters), its key (32 hex digits) or its id. Key and id have an
index on every day, archived ones too; an RRN has none, so the last days are read for it, within
a bound of time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import anyio
import msgspec

from protocols.card_number import mask_digit_runs
from protocols.message import Outcome, response_code
from risk.explain import explain
from risk.record import Assessment, StoredResultsInvalid, decode_results
from risk.ruleset import Ruleset, ruleset_from_bytes
from risk.sentences import ruleset_sentences
from switch.ledger import reviews, sql
from switch.ledger.explained import (
    Answered,
    Asked,
    Became,
    Decider,
    Explained,
    Followed,
    HoldSeen,
    ListingSeen,
    RuleSeen,
    ShadowSeen,
    TagSeen,
)
from switch.ledger.explained_features import features_seen
from switch.ledger.rules_trail import Rows

MATCHES_MAX = 20
FOLLOWERS_MAX = 50
RRN_DAYS = 7
"""So many business days are looked through for an RRN, today's the last."""
SEARCH_SECONDS_MAX = 15.0
RRN_CHARACTERS = 12
_KEY = re.compile(r"[0-9a-fA-F]{32}\Z")
_ID = re.compile(r"[1-9][0-9]{0,18}\Z")
_ID_MAX = 2**63 - 1

_QUERIES = sql.queries("explaining.sql")


class ReferenceUnfit(ValueError):
    """What was given is no reference to an authorization."""

    def __init__(self) -> None:
        super().__init__(
            f"that is no reference; give an RRN of {RRN_CHARACTERS} characters, a key of 32 hex "
            "digits, or the id of an authorization"
        )


class SearchTooLong(Exception):
    """The search was given up."""

    def __init__(self) -> None:
        super().__init__(
            f"the search took more than {SEARCH_SECONDS_MAX:.0f} s and was given up; "
            "name the card, or the business day"
        )


async def explained(
    rows: Rows, reference: str, *, card_id: int | None = None, day: date | None = None
) -> list[Explained]:
    """The authorizations that a reference means, newest first, at most MATCHES_MAX.

    `day` is a business day, archived or not; `card_id` leaves out what is of other cards.
    Raises ReferenceUnfit and SearchTooLong.
    """
    try:
        with anyio.fail_after(SEARCH_SECONDS_MAX):
            found = await rows.fetch(*await _search(rows, reference.strip(), card_id, day))
            stored = await rows.fetch(_QUERIES["authorizations"], *_columns(found))
            kept = [row for row in stored if card_id is None or row["card_id"] == card_id]
            return [_explained(row, await _became(rows, row)) for row in kept]
    except TimeoutError:
        raise SearchTooLong from None


async def _search(
    rows: Rows, reference: str, card_id: int | None, day: date | None
) -> tuple[Any, ...]:
    """The query that finds it, with its arguments."""
    if _KEY.match(reference):
        return _QUERIES["find_by_key"], bytes.fromhex(reference), day, MATCHES_MAX
    if len(reference) == RRN_CHARACTERS and reference.isascii() and reference.isprintable():
        (today,) = await rows.fetch(sql.queries()["business_date"])
        first = today[0] - timedelta(days=RRN_DAYS - 1) if day is None else day
        last = today[0] + timedelta(days=1) if day is None else day
        if card_id is None:
            return _QUERIES["find_by_rrn"], reference, first, last, MATCHES_MAX
        query = _QUERIES["find_by_rrn_of_card"]
        return query, reference, first, last, MATCHES_MAX, card_id
    if _ID.match(reference) and int(reference) <= _ID_MAX:
        return _QUERIES["find_by_id"], int(reference), day, MATCHES_MAX
    raise ReferenceUnfit


def _columns(found: Sequence[Any]) -> tuple[list[Any], ...]:
    names = ("authorization_id", "shard", "business_date")
    return tuple([row[name] for row in found] for name in names)


async def _became(rows: Rows, row: Any) -> Became:
    number, shard = row["authorization_id"], row["shard"]
    followers = await rows.fetch(
        _QUERIES["followers"],
        number,
        shard,
        row["business_date"] - timedelta(days=1),
        FOLLOWERS_MAX,
    )
    holds = await rows.fetch(_QUERIES["hold_of"], number, shard)
    return Became(
        followers=tuple(
            Followed(
                each["authorization_id"],
                each["kind"],
                each["outcome"],
                each["approved_minor"],
                each["at_us"],
                mask_digit_runs(each["explanation"]),
            )
            for each in followers
        ),
        hold=HoldSeen(**dict(holds[0])) if holds else None,
        tags=tuple(
            TagSeen(**dict(each)) for each in await rows.fetch(_QUERIES["tags_of"], number, shard)
        ),
        reviews=tuple(await reviews.of_authorization(rows, number)),
        listings=tuple(
            ListingSeen(**dict(each))
            for each in await rows.fetch(_QUERIES["listings_of_authorization"], number, shard)
        ),
        shadows=tuple(
            ShadowSeen(**dict(each)) for each in await rows.fetch(_QUERIES["shadows_of"], number)
        ),
    )


def _explained(row: Any, became: Became) -> Explained:
    assessment, ruleset = assessment_of(row), ruleset_of(row)
    return Explained(
        authorization_id=row["authorization_id"],
        business_date=row["business_date"],
        shard=row["shard"],
        at_us=row["at_us"],
        posted_at_us=row["posted_at_us"],
        key=row["key"].hex(),
        asked=Asked(**{name: row[name] for name in Asked.__struct_fields__}),
        answered=_answered(row, assessment),
        decider=_decider(row, assessment),
        facts=assessment.facts if assessment is not None else None,
        features=features_seen(assessment.features, ruleset) if assessment is not None else (),
        rules=_rules(assessment, ruleset) if assessment is not None else (),
        because=_because(assessment, row["last4"]),
        became=became,
    )


def _answered(row: Any, assessment: Assessment | None) -> Answered:
    """Not every approval is stored with its sentence: it follows from what the rules said."""
    outcome = Outcome(row["outcome"])
    sentence = row["explanation"]
    if not sentence and assessment is not None and assessment.decision is outcome:
        sentence = explain(assessment, row["last4"])
    return Answered(
        outcome=outcome.value,
        response_code=response_code(outcome),
        approved_minor=row["approved_minor"],
        purse=row["purse"],
        auth_code=row["auth_code"],
        rrn=row["rrn"],
        sentence=mask_digit_runs(sentence),
    )


def _decider(row: Any, assessment: Assessment | None) -> Decider | None:
    """A row that no rules were asked about still has the hash of what was live then."""
    hash_ = assessment.ruleset_hash if assessment is not None else row["ruleset"]
    return Decider(hash_, row["ruleset_state"], row["ruleset_title"]) if hash_ else None


def assessment_of(row: Any) -> Assessment | None:
    """What the rules said, None where they were not asked or another version wrote it."""
    if not row["rule_results"]:
        return None
    try:
        return decode_results(row["rule_results"])
    except StoredResultsInvalid:
        return None


def ruleset_of(row: Any) -> Ruleset | None:
    """The ruleset that decided, None where this version cannot read it."""
    if row["canonical"] is None:
        return None
    try:
        return ruleset_from_bytes(row["canonical"])
    except msgspec.DecodeError:
        return None


def _rules(assessment: Assessment, ruleset: Ruleset | None) -> tuple[RuleSeen, ...]:
    names = {rule.id: rule.name for rule in ruleset.rules} if ruleset is not None else {}
    sentences = ruleset_sentences(ruleset) if ruleset is not None else {}
    return tuple(
        RuleSeen(
            rule_id=each.rule_id,
            version=each.version,
            stage=each.stage.value,
            effect=each.effect.value,
            outcome=each.outcome.value if each.outcome is not None else "",
            why=mask_digit_runs(each.why),
            name=names.get(each.rule_id, ""),
            sentence=sentences.get(each.rule_id, ""),
            decided=each.rule_id == assessment.rule_id,
        )
        for each in assessment.results
    )


def _because(assessment: Assessment | None, last4: str) -> str:
    if assessment is None:
        return ""
    because = assessment.because.replace("{card}", f"card ••{last4}")
    return mask_digit_runs(because or assessment.reason)

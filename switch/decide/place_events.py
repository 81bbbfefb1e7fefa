"""What a posting adds to the counters of its terminal, merchant and acquirer.

Cards have their history, whose rule this is too: an event counts once, whatever is answered to
it; a repeat, a tombstone and money back of a late tap are none; what is given back whole is
taken out where a counter says so, and put in again when what gave it back is undone:

    event              ── posted ──────────────▶ additions
    reversal, void or  ── all of it is back ───▶ given back, out of the event's own minute
    cancel of an event
    reversal of a void ── not all of it is ────▶ additions again, in the event's own minute
    or a cancel
"""

from __future__ import annotations

import msgspec

from protocols.message import TAP_KINDS, Kind
from risk.buckets import BUCKET_SECONDS, Addition, Buckets, PlaceEvent, minute_of
from risk.deployment import Assessor, Deployment
from switch.decide.case import REMEMBERED_KINDS
from switch.posting import CountedEvent, Loaded, Original, Posting, stop_named

KEPT_MINUTES = 25 * 3600 // BUCKET_SECONDS
"""How old a bucket may be: past the longest window (a day, and an hour where clocks go back)."""

_TAKEN_BACK_BY = frozenset({Kind.REVERSAL, Kind.VOID, Kind.PREAUTHORIZATION_CANCEL})
_UNDONE = frozenset({Kind.VOID, Kind.PREAUTHORIZATION_CANCEL})


def buckets_of(rules: Assessor) -> Buckets | None:
    """What counts events of places; None where nothing does, so that nothing is worked out."""
    if not isinstance(rules, Deployment):
        return None
    rulesets = (rules.live, *((rules.canary,) if rules.canary else ()), *rules.shadows)
    return rules.buckets if any(each.places for each in rulesets) else None


def counted(posting: Posting, loaded: Loaded, buckets: Buckets) -> Posting:
    """The posting with what it adds to buckets, once it is posted."""
    additions = additions_of(posting, loaded.original, buckets)
    if not additions:
        return posting
    return msgspec.structs.replace(posting, additions=tuple(additions))


def additions_of(posting: Posting, original: Original | None, buckets: Buckets) -> list[Addition]:
    """What a decision adds to which bucket, once it is posted."""
    if posting.kind in REMEMBERED_KINDS:
        return buckets.additions(place_event(posting))
    if posting.kind in _TAKEN_BACK_BY and posting.outcome.approved and original is not None:
        return _given_back(posting, original, buckets)
    return []


def place_event(posting: Posting) -> PlaceEvent:
    """An event as places count it; an approved tap with what it was charged."""
    request = posting.directed.request
    tap = request.tap
    priced = posting.kind in TAP_KINDS and posting.outcome.approved
    return PlaceEvent(
        posting.at_us,
        request.acquirer,
        request.merchant,
        request.terminal,
        posting.directed.card_id,
        posting.kind,
        posting.approved_minor if priced else request.amount.amount_minor,
        posting.outcome,
        request.segment,
        request.mcc,
        request.venue,
        stop_named(tap),
        tap.vehicle if tap is not None else "",
    )


def _given_back(posting: Posting, original: Original, buckets: Buckets) -> list[Addition]:
    event = original.event
    if event is None or original.authorization_id != posting.original_id:
        return []
    if minute_of(event.at_us) < minute_of(posting.at_us) - KEPT_MINUTES:
        return []
    undone = original.kind in _UNDONE
    if undone and posting.kind is not Kind.REVERSAL:
        return []
    change_minor = -posting.approved_minor if undone else posting.approved_minor
    given_minor = max(event.given_minor, 0) + change_minor
    # What is left of a void that was undone gives nothing back, even of an event of nothing.
    back = given_minor >= event.approved_minor and (not undone or given_minor > 0)
    if back is event.given_back:
        return []
    told = _as_counted(event)
    return buckets.given_back(told) if back else _counted_again(told, buckets)


def _counted_again(event: PlaceEvent, buckets: Buckets) -> list[Addition]:
    return [each._replace(amount=-each.amount) for each in buckets.given_back(event)]


def _as_counted(event: CountedEvent) -> PlaceEvent:
    priced = event.kind in TAP_KINDS and event.outcome.approved
    return PlaceEvent(
        event.at_us,
        event.acquirer,
        event.merchant,
        event.terminal,
        event.card_id,
        event.kind,
        event.approved_minor if priced else event.amount_minor,
        event.outcome,
        event.segment,
        event.mcc,
        event.venue,
        event.stop,
        event.vehicle,
    )

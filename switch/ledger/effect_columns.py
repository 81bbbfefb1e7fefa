"""What postings leave behind for rules, as the last arguments of post_batch.

Both are null where no posting of the batch has any, which is nearly always for effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

from risk.record import Effect
from switch.posting import Posting

FORCE_ONLINE_TAG = "force_online"
"""The tag of an authorization whose card a rule sends online."""


def spent_on_column(postings: Sequence[Posting]) -> list[date | None] | None:
    """p_spent_on: null where every row counts in its own day's week and month."""
    days = [posting.spent_on for posting in postings]
    return days if any(days) else None


def effect_column(postings: Sequence[Posting]) -> str | None:
    """p_effects: listings, reviews and tags as JSON; see post_effects."""
    rows = [
        _effects(n, posting)
        for n, posting in enumerate(postings, 1)
        if posting.listings
        or (posting.assessment is not None and posting.assessment.effects is not None)
    ]
    rows = [row for row in rows if row["listings"] or row["reviews"] or row["tags"]]
    return msgspec.json.encode(rows).decode() if rows else None


def bucket_columns(postings: Sequence[Posting]) -> tuple[Any, ...]:
    """p_bucket_row, _series, _key, _minute and _amount; see post_buckets."""
    added = [
        (n, *addition) for n, posting in enumerate(postings, 1) for addition in posting.additions
    ]
    if not added:
        return None, None, None, None, None
    return tuple([each[position] for each in added] for position in range(5))


def _effects(row: int, posting: Posting) -> dict[str, Any]:
    effects = posting.assessment.effects if posting.assessment is not None else None
    tags: list[Any] = []
    if effects is not None:
        tags.extend(effects.tags)
        if effects.force_online:
            tags.append({"tag": FORCE_ONLINE_TAG, "rule_id": _who_forces(posting)})
    return {
        "n": row,
        "listings": posting.listings,
        "reviews": effects.reviews if effects is not None else (),
        "tags": tags,
    }


def _who_forces(posting: Posting) -> str:
    """The first rule that asked for it, by its result."""
    results = posting.assessment.results if posting.assessment is not None else ()
    forcing = [result.rule_id for result in results if result.effect is Effect.FORCED_ONLINE]
    return forcing[0] if forcing else ""

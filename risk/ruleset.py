"""A ruleset: immutable, and named by the hash of its canonical bytes.

The hash is what a decision records, what an approver signs and what a backtest is pinned to;
two texts that differ in comments, spacing, order of keys or spelt-out defaults have the same one.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

from risk.features import FEATURES_PER_KEY_MAX, Feature, Key
from risk.lists import LISTS_MAX, NamedList
from risk.moments import Settings
from risk.places import PLACES_MAX, Place, StopName
from risk.rules import RULES_MAX, Rule

FEATURES_MAX = FEATURES_PER_KEY_MAX * len(Key)


class Ruleset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings, features, rules, and the lists and places written into the text itself."""

    settings: Settings
    features: Annotated[tuple[Feature, ...], msgspec.Meta(max_length=FEATURES_MAX)] = ()
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=RULES_MAX)] = ()
    lists: Annotated[tuple[NamedList, ...], msgspec.Meta(max_length=LISTS_MAX)] = ()
    places: Annotated[dict[StopName, Place], msgspec.Meta(max_length=PLACES_MAX)] = {}


def canonical_bytes(ruleset: Ruleset) -> bytes:
    """The ruleset as JSON in one spelling: every field, defaults too, in a fixed order."""
    return msgspec.json.encode(ruleset, order="deterministic")


def ruleset_from_bytes(canonical: bytes) -> Ruleset:
    """The ruleset stored as canonical bytes; raises `msgspec.ValidationError` or `DecodeError`."""
    return msgspec.json.decode(canonical, type=Ruleset)


def ruleset_hash(ruleset: Ruleset) -> str:
    """64 hex digits: BLAKE2b-256 of the canonical bytes (RFC 7693)."""
    return bytes_hash(canonical_bytes(ruleset))


def bytes_hash(canonical: bytes) -> str:
    """The hash of a ruleset as it was stored: later versions may spell out more defaults."""
    return hashlib.blake2b(canonical, digest_size=32).hexdigest()

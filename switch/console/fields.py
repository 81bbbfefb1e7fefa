"""Fields that bodies and questions of the console have in common, each with its words."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Reason = Annotated[
    str, Meta(min_length=1, max_length=120, description="why, in 1 to 120 characters")
]
Title = Annotated[str, Meta(max_length=80, description="a title of at most 80 characters")]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9_]{0,39}$",
        description="a name: a small letter, then at most 39 of a-z, 0-9 and _",
    ),
]
Reference = Annotated[
    str,
    Meta(
        pattern=r"^([0-9a-f]{6,64}|live|canary)$",
        description="a ruleset: 6 to 64 hex digits of its hash, or live, or canary",
    ),
]
Hash = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{64}$", description="a ruleset's hash of 64 hex digits")
]
InstantUs = Annotated[
    int, Meta(ge=0, le=2**53, description="an instant in microseconds since 1970, UTC")
]
Id = Annotated[int, Meta(ge=1, le=2**53, description="a number, as it was answered")]
Percent = Annotated[int, Meta(ge=1, le=99, description="a whole number of percent from 1 to 99")]
CountMax = Annotated[
    int, Meta(ge=1, le=1_000, description="how many at most: a whole number from 1 to 1000")
]
EntriesMax = Annotated[
    int, Meta(ge=1, le=10_000, description="how many at most: a whole number from 1 to 10000")
]
Day = Annotated[
    str,
    Meta(pattern=r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}$", description="a day, such as 2026-10-01"),
]

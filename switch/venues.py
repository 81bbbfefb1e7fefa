"""The venues of the city (domain §5): what each is, which purses pay there, what it may take.

The table is data (`venues.toml`); a city edits a copy and names it in the configuration.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from protocols.message import Mode, Segment
from switch.config_reading import ConfigError, Problem, read
from switch.config_types import MerchantCategory, MinorUnits, PurseCode, Section

Flow = Literal["tap", "journey", "parking", "access", "bill", "sale", "preauthorization", "ticket"]
VENUES_MAX = 64
FILE_BYTES_MAX = 1_048_576


class Venue(Section, frozen=True):
    """One kind of place. `mccs` are its merchant categories (ISO 18245), the first its own.

    `flow` is how it is paid: tap (one tap, one fare), journey (on and off), parking (in and
    out), access (no money), bill, sale, preauthorization (and completion), ticket (reserved,
    then confirmed). `modes` are what its readers stand at. `amount_max_minor` is the most of
    one payment, 0 for no limit of its own. The budgets are the switch's own time: p99 and
    the hard deadline.
    """

    number: Annotated[int, Meta(ge=1, le=VENUES_MAX, description="a whole number from 1 to 64")]
    code: Annotated[
        str,
        Meta(pattern=r"\A[a-z][a-z_]{0,31}\Z", description="1 to 32 small letters or _"),
    ]
    name: Annotated[str, Meta(min_length=1, max_length=40, description="1 to 40 characters")]
    name_zh: Annotated[str, Meta(min_length=1, max_length=20, description="1 to 20 characters")]
    segment: Segment
    flow: Flow
    mccs: Annotated[
        tuple[MerchantCategory, ...], Meta(min_length=1, description="one category or more")
    ]
    purse_order: Annotated[
        tuple[PurseCode, ...], Meta(min_length=1, description='purses such as ["TRN", "GEN"]')
    ]
    p99_ms: Annotated[int, Meta(ge=1, le=60_000, description="whole milliseconds, 1 to 60000")]
    hard_ms: Annotated[int, Meta(ge=1, le=60_000, description="whole milliseconds, 1 to 60000")]
    modes: tuple[Mode, ...] = ()
    amount_max_minor: MinorUnits = 0


class VenueTable(Section, frozen=True):
    """The file: one `[[venues]]` table each."""

    venues: tuple[Venue, ...]

    def by_code(self) -> Mapping[str, Venue]:
        return {venue.code: venue for venue in self.venues}

    def by_mode(self) -> Mapping[Mode, Venue]:
        """The venue at which a reader of a mode stands."""
        return {mode: venue for venue in self.venues for mode in venue.modes}

    def by_mcc(self, codes: Iterable[str] = ()) -> Mapping[str, str]:
        """Codes by merchant category, of the named venues or of all; the first in the table wins.

        Bills are named by their biller and never found by category.
        """
        wanted = frozenset(codes)
        found: dict[str, str] = {}
        for venue in self.venues:
            if (venue.code in wanted) if wanted else venue.flow != "bill":
                for mcc in venue.mccs:
                    found.setdefault(mcc, venue.code)
        return found


def load_venues(file: str) -> VenueTable:
    """The configured table, else the shipped one. Raises ConfigError with all its problems."""
    source = file or "venues.toml"
    try:
        text = (
            Path(file).read_text("utf-8")
            if file
            else files("switch").joinpath("venues.toml").read_text("utf-8")
        )
        document = tomllib.loads(text[:FILE_BYTES_MAX])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not TOML in UTF-8"
        raise ConfigError(
            source, [Problem("venues.file", f"it cannot be read ({reason})", "name a venue table")]
        ) from None
    table, problems = read(VenueTable, document)
    if table is not None and not problems:
        problems += _twice(table)
    if problems or table is None:
        raise ConfigError(source, problems)
    return table


def _twice(table: VenueTable) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[object, str] = {}
    for index, venue in enumerate(table.venues):
        names = [("code", venue.code), ("number", venue.number)]
        names += [("modes", mode) for mode in venue.modes]
        for key, value in names:
            other = seen.setdefault((key, value), f"venues[{index}]")
            if other != f"venues[{index}]":
                remedy = "give each venue its own"
                problems.append(Problem(f"venues[{index}].{key}", f"{other} has it too", remedy))
    return problems

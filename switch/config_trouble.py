"""Sections of the configuration about what takes time and what goes wrong.

Holds and refunds, TLS, stand-in while the ledger is away, and hosts of other issuers.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocols.framing import LengthKind
from protocols.iso8583.client import Dialect
from switch.config_types import (
    AcquirerCode,
    Bin,
    Count,
    Days,
    LinkName,
    MacMethod,
    MerchantCategory,
    MinorUnits,
    Minutes,
    Owner,
    Seconds,
    Section,
)


class LinkFraming(Section, frozen=True):
    """How frames of a link begin: length kind, TPDU, header of the network."""

    length: LengthKind = "binary2"
    tpdu: bool = True
    header_bytes: Annotated[
        int, Meta(ge=0, le=64, description="a whole number of bytes from 0 to 64")
    ] = 6


class Holds(Section, frozen=True):
    """How long money stays set aside before it is freed by itself."""

    expiry_minutes: Minutes = 43_200
    expiry_minutes_by_mcc: Annotated[
        dict[MerchantCategory, Minutes],
        Meta(description='a table of whole minutes such as { "5542" = 120 }'),
    ] = msgspec.field(default_factory=lambda: {"5541": 120, "5542": 120})
    load_expiry_minutes: Minutes = 43_200
    open_max_per_account: Annotated[
        int, Meta(ge=1, le=64, description="a whole number from 1 to 64")
    ] = 8


class Refunds(Section, frozen=True):
    """How old a sale may be to be given back."""

    days_max: Days = 180


class Tls(Section, frozen=True):
    """TLS of a listener or a destination; no certificate file is no TLS.

    With `authority_file` the peer must show a certificate that it signed (mTLS).
    """

    certificate_file: str = ""
    private_key_file: str = ""
    authority_file: str = ""


class StandinPolicy(Section, frozen=True):
    """What may be approved for a segment while the ledger is away, and who answers for it.

    Limits hold from the start of an outage until its advices are posted. A card must have
    been approved here within `seen_hours`. What cannot be posted afterwards is kept in the
    SUSPENSE account of `suspense_owner`.
    """

    enabled: bool = False
    amount_max_minor: MinorUnits = 0
    card_amount_max_minor: MinorUnits = 0
    card_count_max: Count = 1
    total_max_minor: MinorUnits = 0
    seen_hours: Annotated[int, Meta(ge=1, le=168, description="whole hours from 1 to 168")] = 24
    suspense_owner: Owner = "risk office"


class TransitStandin(StandinPolicy, frozen=True):
    """Transit stands in as shipped: a fare is small, and a gate cannot wait."""

    enabled: bool = True
    amount_max_minor: MinorUnits = 1_000
    card_amount_max_minor: MinorUnits = 3_000
    card_count_max: Count = 6
    total_max_minor: MinorUnits = 50_000_000
    suspense_owner: Owner = "transit operations"


class Standin(Section, frozen=True):
    """Stand-in: a policy per segment before a durable spool. An empty path is
    `standin.sqlite` in the directory of the switch."""

    enabled: bool = True
    spool_file: str = ""
    spool_rows_max: Count = 100_000
    transit: TransitStandin = TransitStandin()
    utility: StandinPolicy = StandinPolicy()
    retail: StandinPolicy = StandinPolicy()


class Upstream(Section, frozen=True):
    """The host of another issuer: cards that begin with one of `bins` are authorized there.

    `acquirer` is the DE32 under which this switch speaks to it. `timeout_ms` is how long an
    answer may take before the request is reversed; a reversal is sent again after
    `reversal_retry_seconds`, then twice that and so on up to `reversal_retry_seconds_max`.
    """

    name: LinkName
    host: str
    port: Annotated[int, Meta(ge=1, le=65_535, description="a TCP port, 1 to 65535")]
    bins: tuple[Bin, ...]
    acquirer: AcquirerCode
    dialect: Dialect = "iso87_ascii"
    timeout_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="whole milliseconds from 10 to 60000")
    ] = 500
    sign_on: Literal["required", "none"] = "required"
    echo_idle_seconds: Annotated[
        int, Meta(ge=1, le=86_400, description="whole seconds from 1 to 86400")
    ] = 60
    reversal_retry_seconds: Seconds = 1
    reversal_retry_seconds_max: Seconds = 300
    in_flight_max: Count = 1_024
    mac: MacMethod = "none"
    framing: LinkFraming = LinkFraming(length="ascii4", tpdu=False, header_bytes=0)
    tls: Tls = Tls()

"""Sections of the configuration about the city: venues, fares, readers, bills and billers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from protocols.message import Mode
from switch.config_trouble import Tls
from switch.config_types import AcquirerCode, Count, CutOff, LinkName, MerchantCategory, Section

BudgetMs = Annotated[int, Meta(ge=10, le=60_000, description="whole milliseconds from 10 to 60000")]
Url = Annotated[
    str,
    Meta(
        pattern=r"\Ahttps?://[^\s/?#@]+(/[^\s?#]*)?\Z",
        description="an http or https address without user, query or fragment",
    ),
]


class Venues(Section, frozen=True):
    """Which table of venues holds; an empty `file` is the shipped one."""

    file: str = ""


class Fares(Section, frozen=True):
    """Which fare tables hold; an empty `file` is the shipped one.

    A device's clock may be ahead by `clock_tolerance_seconds` before its taps are flagged.
    """

    file: str = ""
    clock_tolerance_seconds: Annotated[
        int, Meta(ge=0, le=86_400, description="whole seconds from 0 to 86400")
    ] = 300


class Uploads(Section, frozen=True):
    """Batches of offline records, and debit files: work that waits while anything else does.

    A batch is kept in memory until its count, total and hash are proven, so its size is
    bounded, and so is what a connection may have open and a worker under way.
    """

    records_per_batch_max: Annotated[
        int, Meta(ge=1, le=20_000, description="a whole number from 1 to 20000")
    ] = 2_000
    open_batches_max: Annotated[
        int, Meta(ge=1, le=1_024, description="a whole number from 1 to 1024")
    ] = 8
    in_flight_max: Count = 256
    debit_rows_max: Annotated[
        int, Meta(ge=1, le=10_000_000, description="a whole number from 1 to 10000000")
    ] = 1_000_000


class TapLink(Section, frozen=True):
    """One port for the concentrators of an acquirer's readers (depots, stations, gates).

    `modes` are what its readers stand at. Devices prove themselves by keys derived from the
    acquirer's reader master key.
    """

    name: LinkName
    acquirer: AcquirerCode
    modes: tuple[Mode, ...]
    port: Annotated[int, Meta(ge=0, le=65_535, description="a TCP port, 0 is any free")] = 8600
    budget_ms: BudgetMs = 150
    tls: Tls = Tls()


class Api(Section, frozen=True):
    """One port of the HTTP API for utilities and counters.

    With an `acquirer` whoever holds a certificate of `tls.authority_file` is that acquirer;
    without one each request shows an API key, which belongs to an acquirer.
    """

    name: LinkName
    port: Annotated[int, Meta(ge=0, le=65_535, description="a TCP port, 0 is any free")] = 8700
    acquirer: Annotated[
        str, Meta(pattern=r"\A[0-9]{0,11}\Z", description="the 1 to 11 digits of DE32, or empty")
    ] = ""
    budget_ms: BudgetMs = 10_000
    body_bytes_max: Annotated[
        int, Meta(ge=1_024, le=1 << 24, description="a whole number of bytes, 1024 to 16777216")
    ] = 65_536
    tls: Tls = Tls()


class Biller(Section, frozen=True):
    """A biller's host: where bills are asked for, paid and looked up.

    `kind`: a postpaid bill may be reversed until `cut_off` of the business day it was paid
    on; a prepaid token never, once it exists. `venue` is a code of the venue table, empty for
    a biller that belongs to none (a school's canteen). The owner
    of its money (ACQ account) is `acquirer`. Its calls end after `timeout_ms`; after
    `circuit_failures` of them in a row it is left alone for `circuit_seconds`. What it
    answered to an inquiry is held to for `inquiry_seconds`.
    """

    name: LinkName
    url: Url
    acquirer: AcquirerCode
    venue: str = ""
    mcc: MerchantCategory = "4900"
    kind: Literal["postpaid", "prepaid"] = "postpaid"
    timeout_ms: BudgetMs = 3_000
    inquiry_seconds: Annotated[
        int, Meta(ge=10, le=86_400, description="whole seconds from 10 to 86400")
    ] = 900
    cut_off: CutOff = "22:00"
    circuit_failures: Annotated[
        int, Meta(ge=1, le=1_000, description="a whole number from 1 to 1000")
    ] = 5
    circuit_seconds: Annotated[
        int, Meta(ge=1, le=3_600, description="whole seconds from 1 to 3600")
    ] = 10
    api_key_file: str = ""

"""Configuration: TOML in, checked frozen structs out; every problem is found in one pass.

All keys have defaults, so an empty file is a working switch with one retail link. What a
key means stands in `citycard.toml` beside this module, which `citycard init` writes out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocols.framing import Framing
from protocols.iso8583.client import Dialect
from protocols.iso8583.link import KEY_PARTS_DEFAULT, KeyPart, LinkTerms, MessageClass
from protocols.message import Segment
from switch.config_checks import notes, problems_across
from switch.config_city import Api, Biller, Fares, TapLink, Uploads, Venues
from switch.config_reading import ConfigError, Problem, read
from switch.config_trouble import Holds, LinkFraming, Refunds, Standin, Tls, Upstream
from switch.config_types import (
    AcquirerCode,
    Count,
    CurrencyCode,
    CutOff,
    Days,
    LinkName,
    MacMethod,
    MerchantCategory,
    MinorUnits,
    Minutes,
    Port,
    PurseCode,
    Seconds,
    Section,
)

__all__ = ["Config", "ConfigError", "Link", "Problem", "link_terms", "load", "notes", "parse"]

FILE_BYTES_MAX = 1_048_576
"""A configuration is kilobytes; a larger file is a mistake in the path."""

MAIN_FILE = "citycard.toml"
"""The name `citycard init` gives the file, and which commands read when no other is named."""


class Ledger(Section, frozen=True):
    """Where the money is. `shards`, zone, cut-off and currency never change under a ledger."""

    database: str = ""
    shards: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 4
    time_zone: str = "Asia/Shanghai"
    cut_off: CutOff = "00:00"
    currency: CurrencyCode = "156"
    partitions_ahead_days: Days = 7
    read_connections: Annotated[
        int, Meta(ge=1, le=64, description="a whole number from 1 to 64")
    ] = 2
    connect_timeout_seconds: Seconds = 10


class Server(Section, frozen=True):
    """The process: where it listens and how many workers share the ports."""

    host: str = "127.0.0.1"
    metrics_port: Port = 9464
    workers: Annotated[int, Meta(ge=1, le=256, description="a whole number from 1 to 256")] = 1
    backend: Literal["asyncio", "trio"] = "asyncio"
    drain_seconds: Seconds = 10
    metrics_tls: Tls = Tls()


class Limits(Section, frozen=True):
    """A limit on everything that could grow, per worker."""

    connections_max: Count = 12_000
    lane_queue_max: Count = 2_048
    batch_max: Annotated[int, Meta(ge=1, le=1_024, description="a whole number from 1 to 1024")] = (
        128
    )
    batches_at_once: Annotated[
        int, Meta(ge=1, le=64, description="a whole number from 1 to 64")
    ] = 2
    in_flight_max: Count = 8_192
    frame_bytes_max: Annotated[
        int, Meta(ge=256, le=65_535, description="a whole number of bytes from 256 to 65535")
    ] = 4_096
    idle_seconds: Seconds = 600
    first_frame_seconds: Seconds = 15
    unanswered_bytes_max: Annotated[
        int, Meta(ge=4_096, le=1 << 30, description="a whole number of bytes, 4096 or more")
    ] = 1_048_576
    directory_cache: Annotated[
        int, Meta(ge=1, le=100_000_000, description="a whole number of cards, 1 or more")
    ] = 200_000


class Rules(Section, frozen=True):
    """How rulesets live. `file` is what a fresh ledger begins with; empty is the shipped one.

    From then on the live ruleset is the ledger's. A ruleset that would decline more than
    `declined_percent_max` of what was approved yesterday is submitted with an override only. A
    rule pauses itself where it declines more than `pause_percent` of its forecast and
    `pause_slack_ppm` above that, after `pause_after_requests`.
    """

    file: str = ""
    shadows_max: Annotated[int, Meta(ge=0, le=16, description="a whole number from 0 to 16")] = 3
    shadow_examples_max: Annotated[
        int, Meta(ge=0, le=1_000, description="a whole number from 0 to 1000")
    ] = 50
    declined_percent_max: Annotated[
        int, Meta(ge=0, le=100, description="a whole number of percent from 0 to 100")
    ] = 1
    pause_after_requests: Count = 10_000
    pause_percent: Annotated[
        int, Meta(ge=100, le=10_000, description="a whole number of percent from 100 to 10000")
    ] = 200
    pause_slack_ppm: Annotated[
        int, Meta(ge=0, le=1_000_000, description="parts per million from 0 to 1000000")
    ] = 5_000
    rule_ns_max: Annotated[
        int, Meta(ge=1_000, le=100_000_000, description="nanoseconds from 1000 to 100000000")
    ] = 50_000


class Console(Section, frozen=True):
    """The HTTP API of those who work with rules: a process of its own (`citycard console`)."""

    port: Port = 8470
    tls: Tls = Tls()


class Keys(Section, frozen=True):
    """Where the secrets are: the card number key, and the store of zone and PIN keys.

    An empty path is `card_number.key`, or `key_store.json`, in the directory of the switch.
    `overlap_minutes` is how long the key before the newest one is still accepted.
    """

    card_number_key_file: str = ""
    store_file: str = ""
    overlap_minutes: Minutes = 60


class Tier(Section, frozen=True):
    """What a holder known to this degree may keep (domain §3.5)."""

    balance_cap_minor: MinorUnits


class Tiers(Section, frozen=True):
    """T0 anonymous, T1 named, T2 verified face to face."""

    t0: Tier = msgspec.field(default=Tier(100_000), name="T0")
    t1: Tier = msgspec.field(default=Tier(500_000), name="T1")
    t2: Tier = msgspec.field(default=Tier(500_000), name="T2")

    def balance_caps_minor(self) -> dict[str, int]:
        """The cap of the GEN purse by tier."""
        return {
            "T0": self.t0.balance_cap_minor,
            "T1": self.t1.balance_cap_minor,
            "T2": self.t2.balance_cap_minor,
        }


class TransitPurse(Section, frozen=True):
    """TRN: spendable only at these merchant categories."""

    mccs: tuple[MerchantCategory, ...] = ("4111", "4112", "4121", "4131", "7523")
    overdraft_minor: MinorUnits = 0


class GeneralPurse(Section, frozen=True):
    """GEN: spendable everywhere but at cash-like categories."""

    refused_mccs: tuple[MerchantCategory, ...] = ("6010", "6011", "6012", "6051", "4829", "7995")
    pin_above_minor: MinorUnits = 100_000


class Purses(Section, frozen=True):
    """The purses and the order in which a payment tries them."""

    order: tuple[PurseCode, ...] = ("TRN", "GEN")
    transit: TransitPurse = msgspec.field(default=TransitPurse(), name="TRN")
    general: GeneralPurse = msgspec.field(default=GeneralPurse(), name="GEN")


class Link(Section, frozen=True):
    """One listening port and the acquirer who speaks there."""

    name: LinkName = "retail-1"
    port: Port = 8583
    dialect: Dialect = "unionpay_pos"
    acquirer: AcquirerCode = "48021000"
    segment: Segment = Segment.RETAIL
    budget_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="whole milliseconds from 10 to 60000")
    ] = 800
    currencies: tuple[CurrencyCode, ...] = ("156",)
    default_mcc: MerchantCategory = "5411"
    match_key: tuple[KeyPart, ...] = KEY_PARTS_DEFAULT
    match_key_by_class: Annotated[
        dict[MessageClass, tuple[KeyPart, ...]],
        Meta(description='a table of lists such as { "04" = ["acquirer", "terminal", "stan"] }'),
    ] = msgspec.field(default_factory=dict)
    sign_on: Literal["required", "none"] = "required"
    echo_idle_seconds: Annotated[
        int, Meta(ge=0, le=86_400, description="whole seconds from 0 (never) to 86400")
    ] = 60
    partial_approval: bool = False
    mac: MacMethod = "none"
    venues: tuple[str, ...] = ()
    framing: LinkFraming = LinkFraming()
    tls: Tls = Tls()


class Config(Section, frozen=True):
    """Everything an operator decides."""

    ledger: Ledger = Ledger()
    server: Server = Server()
    limits: Limits = Limits()
    rules: Rules = Rules()
    console: Console = Console()
    keys: Keys = Keys()
    tiers: Tiers = Tiers()
    purses: Purses = Purses()
    holds: Holds = Holds()
    refunds: Refunds = Refunds()
    standin: Standin = Standin()
    venues: Venues = Venues()
    fares: Fares = Fares()
    uploads: Uploads = Uploads()
    links: tuple[Link, ...] = (Link(),)
    taps: tuple[TapLink, ...] = ()
    apis: tuple[Api, ...] = ()
    billers: tuple[Biller, ...] = ()
    upstreams: tuple[Upstream, ...] = ()


def load(path: Path | None) -> Config:
    """The configuration in a file; None is all defaults. Raises ConfigError."""
    if path is None:
        return Config()
    try:
        with path.open("rb") as file:
            octets = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise _unusable(str(path), reason, "name a file that can be read") from None
    try:
        return parse(octets.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
        raise _unusable(str(path), problem, "save it as UTF-8 text") from None


def parse(text: str, source: str) -> Config:
    """The configuration that a TOML text says. Raises ConfigError with all its problems."""
    if len(text) > FILE_BYTES_MAX:
        raise _unusable(source, "it is longer than 1 MiB", "name a citycard configuration")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _unusable(source, f"it is not TOML: {error}", "correct it there") from None
    except (ValueError, RecursionError):
        # a number of thousands of digits, or lists nested without end
        raise _unusable(source, "a value is too large to be read", "make it smaller") from None
    config, problems = read(Config, document)
    if config is not None:
        problems += problems_across(config, problems)
    if problems or config is None:
        raise ConfigError(source, problems)
    return config


def _unusable(source: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(source, [Problem("file", problem, remedy)])


def doors(config: Config) -> list[tuple[str, int]]:
    """Name and port of everything that listens: links, tap links, APIs."""
    return [
        *((link.name, link.port) for link in config.links),
        *((link.name, link.port) for link in config.taps),
        *((api.name, api.port) for api in config.apis),
    ]


def acquirers(config: Config) -> list[str]:
    """Whoever is owed money or owes some: acquirers of links and APIs, and billers."""
    return sorted(
        {
            *(link.acquirer for link in config.links),
            *(link.acquirer for link in config.taps),
            *(api.acquirer for api in config.apis if api.acquirer),
            *(biller.acquirer for biller in config.billers),
        }
    )


def link_terms(link: Link, config: Config, venues: Mapping[str, str] | None = None) -> LinkTerms:
    """What protocols/ needs to know about a link; `venues` are codes by merchant category."""
    return LinkTerms(
        name=link.name,
        dialect=link.dialect,
        framing=Framing(
            kind=link.framing.length,
            tpdu=link.framing.tpdu,
            header_bytes=link.framing.header_bytes,
            frame_bytes_max=config.limits.frame_bytes_max,
        ),
        acquirer=link.acquirer,
        segment=link.segment,
        budget_ms=link.budget_ms,
        currencies=link.currencies,
        match_key=link.match_key,
        match_key_by_class=link.match_key_by_class,
        default_mcc=link.default_mcc,
        partial_approval=link.partial_approval,
        venues=venues or {},
    )


def key_path(config: Config, directory: Path) -> Path:
    """Where the card number key is, given the directory of the switch."""
    named = config.keys.card_number_key_file
    return Path(named) if named else directory / "card_number.key"

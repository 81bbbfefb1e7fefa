"""`card`: what the operator's counter does with one card.

A card is named by its id or its number; `-` reads that from stdin, so that a number is in
no process list and no shell history.
"""

from __future__ import annotations

import getpass
import re
import secrets
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, TypeVar

import msgspec
from cyclopts import App, Parameter

from protocols.card_number import CardNumber, luhn_check_digit, mask_digit_runs, numbered_card
from protocols.message import Reply
from protocols.money import AMOUNT_MINOR_MAX, display_minor
from switch.calendar import BusinessCalendar, epoch_us
from switch.clock import SystemClock
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, card_number_key, with_ledger
from switch.commands.output import Json, given_or_stdin, write, write_json, write_table
from switch.config import Config
from switch.config_types import PurseCode, TierCode
from switch.ledger import cards
from switch.ledger.cards import CardReference, CardStatus, CardView, ChipView, IssuedCard, NewCard
from switch.ledger.counter import LoadOrder, load_purses
from switch.ledger.migrate import settlement_accounts
from switch.ledger.store import Store
from switch.terms import live_terms

T = TypeVar("T")

CARD_DIGITS = 16
ISSUE_ATTEMPTS_MAX = 20
"""A random number under a BIN is taken already only where most of the BIN is."""

PURSE_NAMES = {1: "TRN", 2: "GEN", 3: "CHIP"}
FARE_CLASS_MAX = 32_767
_AMOUNT = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,2}))?\Z")
_EXPIRY = re.compile(r"([0-9]{2}(0[1-9]|1[0-2]))?\Z")
_BIN = re.compile(r"[1-9][0-9]{5,7}\Z")

app = App(name="card", help="Issue, load, entitle, block and show cards.", help_format="plaintext")

Reference = Annotated[
    str,
    Parameter(help="Card id or card number; - reads it from stdin."),
]
Reason = Annotated[str, Parameter(help="Why, for the record.")]


class NewCardView(msgspec.Struct, frozen=True):
    """An issued card with its number, which is shown this once and stored nowhere."""

    card_number: str
    card_id: int
    account_id: int
    shard: int
    tier: str


@app.command
def issue(
    *,
    where: Where = HERE,
    number: Annotated[
        str | None,
        Parameter(
            help="The card's number; - reads it from stdin. New if not given.",
        ),
    ] = None,
    bin: Annotated[str, Parameter(help="First 6 to 8 digits of a new number.")] = "621299",
    tier: Annotated[TierCode, Parameter(help="How well the holder is known.")] = "T0",
    product: Annotated[str, Parameter(help="Card product.")] = "standard",
    expires: Annotated[str, Parameter(help="Expiry as YYMM; never if not given.")] = "",
    chip: Annotated[
        bool, Parameter(negative="", help="There is a purse on its chip: open CHIP, its shadow.")
    ] = False,
    json: Json = False,
) -> int:
    """Issue a card with a new account, and print its number this once."""
    if not _EXPIRY.match(expires):
        raise CommandFailed("--expires is not a year and month; write YYMM such as 2912")
    if not _BIN.match(bin):
        raise CommandFailed("--bin is not 6 to 8 digits; give the first digits of the card number")
    config = where.load()
    key = card_number_key(where, config)
    chosen = None if number is None else _card_number(given_or_stdin(number))

    async def body(ledger: Ledger) -> tuple[CardNumber, IssuedCard]:
        for _ in range(ISSUE_ATTEMPTS_MAX):
            card = chosen or _new_number(bin)
            (issued,) = await cards.issue(
                ledger.connection,
                [NewCard(card, expires, tier, product, chip)],
                shards=config.ledger.shards,
                key=key,
                overdraft_minor=config.purses.transit.overdraft_minor,
            )
            if issued.issued:
                return card, issued
            if chosen is not None:
                raise CommandFailed("this card was issued before; use card show", Exit.FINDINGS)
        raise CommandFailed("no free number was found under this BIN; give another", Exit.FINDINGS)

    card, issued = with_ledger(where, config, body)
    view = NewCardView(card.reveal(), issued.card_id, issued.account_id, issued.shard, tier)
    if json:
        write_json(view)
    else:
        write(f"card {view.card_id}, number {view.card_number}: note it now, it is not kept")
    return Exit.OK


@app.command
def load(
    reference: Reference,
    amount: Annotated[str, Parameter(help="Amount with up to two decimals, such as 100.00.")],
    /,
    *,
    where: Where = HERE,
    purse: Annotated[PurseCode, Parameter(help="The purse that gets it.")] = "GEN",
    json: Json = False,
) -> int:
    """Add money to a purse, paid at the counter, through the switch's own posting."""
    amount_minor = minor_units(amount)

    async def body(ledger: Ledger, config: Config, found: CardReference) -> tuple[int, Reply]:
        order = LoadOrder(found.shard, found.account_id, found.card_id, purse, amount_minor)
        return found.card_id, await _posted(ledger, config, order)

    card_id, reply = _with_card(where, reference, body)
    if not reply.outcome.approved:
        outcome = reply.outcome.value
        raise CommandFailed(f"the load was declined: {outcome}", Exit.FINDINGS)
    if json:
        write_json(
            {
                "card_id": card_id,
                "purse": purse,
                "amount_minor": reply.approved_minor,
                "authorization_id": reply.authorization_id,
            }
        )
    else:
        write(f"{display_minor(reply.approved_minor)} loaded to {purse} of card {card_id}")
    return Exit.OK


async def _posted(ledger: Ledger, config: Config, order: LoadOrder) -> Reply:
    """The switch's own answer to a load at the counter."""
    accounts = await settlement_accounts(ledger.connection)
    terms = await live_terms(config, accounts, ledger.connection, SystemClock().now_us())
    store = await Store.open(ledger.url, config.ledger.connect_timeout_seconds)
    try:
        (reply,) = await load_purses(
            store,
            [order],
            terms=terms,
            currency=config.ledger.currency,
            calendar=BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off),
            clock=SystemClock(),
            entropy=secrets.token_bytes,
        )
    finally:
        store.terminate()
    return reply


@app.command
def entitle(
    reference: Reference,
    /,
    *,
    fare_class: Annotated[int, Parameter(name="--class", help="The fare class of the tables.")],
    first_day: Annotated[
        str, Parameter(name="--from", help="First day, as YYYY-MM-DD; today if not given.")
    ] = "",
    last_day: Annotated[
        str, Parameter(name="--until", help="Last day, as YYYY-MM-DD; needed unless revoking.")
    ] = "",
    revoke: Annotated[
        bool, Parameter(negative="", help="End the card's rights to this class now instead.")
    ] = False,
    author: Annotated[str, Parameter(help="Who says so; you if not given.")] = "",
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Give a card's account a right to a fare class for some days, or end it.

    A right is judged at the instant of a tap: rides made before it ended keep it.
    """
    if not 1 <= fare_class <= FARE_CLASS_MAX:
        raise CommandFailed(f"--class is out of range; give 1 to {FARE_CLASS_MAX}")
    if revoke == bool(last_day):
        raise CommandFailed("give either --until for a new right, or --revoke to end one")
    by = _author(author)

    async def body(ledger: Ledger, config: Config, found: CardReference) -> tuple[int, list[int]]:
        now_us = SystemClock().now_us()
        if revoke:
            ended = await cards.revoke(
                ledger.connection, found, fare_class, at_us=now_us, revoked_by=by
            )
            return found.card_id, ended
        days = BusinessCalendar(config.ledger.time_zone, "00:00")
        first = _day(first_day, "--from") if first_day else days.business_date(now_us)
        last = _day(last_day, "--until")
        if last < first:
            raise CommandFailed("--until is before the first day; give a later one")
        granted = await cards.entitle(
            ledger.connection,
            found,
            fare_class,
            from_us=days.day_bounds_us(first)[0],
            until_us=days.day_bounds_us(last)[1],
            granted_by=by,
        )
        return found.card_id, [granted]

    card_id, entitlements = _with_card(where, reference, body)
    if not entitlements:
        raise CommandFailed("the card has no right to this class that could end", Exit.FINDINGS)
    if json:
        write_json({"card_id": card_id, "fare_class": fare_class, "entitlements": entitlements})
    elif revoke:
        write(f"card {card_id} has no right to fare class {fare_class} from now on")
    else:
        write(f"card {card_id} has a right to fare class {fare_class} until {last_day}")
    return Exit.OK


@app.command
def block(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    status: Annotated[CardStatus, Parameter(help="What became of the card.")] = CardStatus.BLOCKED,
    reason: Reason = "",
    json: Json = False,
) -> int:
    """Stop a card: from now on everything it asks for is declined."""
    if status is CardStatus.ACTIVE:
        raise CommandFailed("active does not block a card; use card unblock")
    return _set_status(where, reference, status, reason, json)


@app.command
def unblock(
    reference: Reference, /, *, where: Where = HERE, reason: Reason = "", json: Json = False
) -> int:
    """Let a card that was blocked, lost or stolen be used again."""
    return _set_status(where, reference, CardStatus.ACTIVE, reason, json)


@app.command
def show(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    last: Annotated[int, Parameter(help="How many authorizations to show.")] = 20,
    json: Json = False,
) -> int:
    """Show a card: status, purses, open holds, and why its latest messages were decided so."""
    if not 0 <= last <= 1_000:
        raise CommandFailed("--last is out of range; give 0 to 1000")

    async def body(
        ledger: Ledger, config: Config, found: CardReference
    ) -> tuple[CardView, BusinessCalendar]:
        calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
        view = await cards.show(ledger.connection, found.card_id, authorizations_max=last)
        return view, calendar

    view, calendar = _with_card(where, reference, body)
    if json:
        write_json(view)
    else:
        _write_card(view, calendar)
    return Exit.OK


def minor_units(amount: str) -> int:
    """Minor units of an amount in major ones: `12.5` is 1250. Raises CommandFailed."""
    match = _AMOUNT.match(amount)
    minor = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0")) if match else 0
    if not 0 < minor <= AMOUNT_MINOR_MAX:
        raise CommandFailed("the amount is not money above zero; write it such as 100 or 99.50")
    return minor


def _with_card(
    where: Where, reference: str, body: Callable[[Ledger, Config, CardReference], Awaitable[T]]
) -> T:
    config = where.load()
    key = card_number_key(where, config)
    named = given_or_stdin(reference)

    async def found(ledger: Ledger) -> T:
        return await body(ledger, config, await cards.find(ledger.connection, named, key))

    return with_ledger(where, config, found)


def _set_status(where: Where, reference: str, status: CardStatus, reason: str, json: bool) -> int:
    async def body(ledger: Ledger, _config: Config, found: CardReference) -> tuple[int, CardStatus]:
        masked = mask_digit_runs(reason)
        return found.card_id, await cards.set_status(
            ledger.connection, found.card_id, status, masked
        )

    card_id, previous = _with_card(where, reference, body)
    if json:
        write_json({"card_id": card_id, "status": status, "previous_status": previous})
    else:
        write(f"card {card_id} is {status.value}; it was {previous.value}")
    return Exit.OK


def _card_number(digits: str) -> CardNumber:
    bare = digits.replace(" ", "").replace("-", "")
    try:
        card = CardNumber(bare)
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    if luhn_check_digit(bare[:-1]) != bare[-1]:
        raise CommandFailed("the check digit does not fit this card number; type it again")
    return card


def _author(author: str) -> str:
    if author:
        return mask_digit_runs(author[:80])
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise CommandFailed("nobody knows who you are here; give --author") from None


def _day(text: str, name: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandFailed(f"{name} is not a date; write it as YYYY-MM-DD") from None


def _new_number(bin_digits: str) -> CardNumber:
    serial_digits = CARD_DIGITS - 1 - len(bin_digits)
    return numbered_card(bin_digits, secrets.randbelow(10**serial_digits), CARD_DIGITS)


def _write_card(view: CardView, calendar: BusinessCalendar) -> None:
    reason = f" ({view.status_reason})" if view.status_reason else ""
    expiry = view.expires_yymm or "never"
    listed = "  on the hotlist" if view.hotlisted else ""
    write(f"card {view.card_id} ••{view.last4}  {view.status}{reason}{listed}  expires {expiry}")
    write(
        f"account {view.account_id}  {view.account_status}  tier {view.tier}  "
        f"product {view.product}  shard {view.shard}  issued {view.issued_at:%Y-%m-%d}"
    )
    write_table(
        "Purses",
        ["purse", "balance>", "held>", "floor>", "month", "payments>", "spent>"],
        (
            (
                PURSE_NAMES.get(purse.purse, str(purse.purse)),
                display_minor(purse.balance_minor),
                display_minor(purse.held_minor),
                display_minor(purse.floor_minor),
                f"{purse.month:%Y-%m}" if purse.month else "",
                purse.month_count,
                display_minor(purse.month_minor),
            )
            for purse in view.purses
        ),
    )
    if view.holds:
        write_table(
            "Open holds",
            ["expires", "for", "purse", "merchant", "acquirer", "amount>"],
            (
                (
                    f"{calendar.local(epoch_us(each.expires_at)):%m-%d %H:%M:%S}",
                    each.purpose,
                    PURSE_NAMES.get(each.purse, str(each.purse)),
                    each.merchant,
                    each.acquirer,
                    display_minor(each.amount_minor),
                )
                for each in view.holds
            ),
        )
    if view.chip is not None:
        _write_chip(view.chip)
    if view.entitlements:
        write_table(
            "Rights to fare classes",
            ["class>", "from", "until", "granted by", "ended"],
            (
                (
                    each.fare_class,
                    f"{calendar.local(epoch_us(each.valid_from)):%Y-%m-%d %H:%M}",
                    f"{calendar.local(epoch_us(each.valid_until)):%Y-%m-%d %H:%M}",
                    each.granted_by,
                    f"{calendar.local(epoch_us(each.revoked_at)):%Y-%m-%d %H:%M}"
                    if each.revoked_at
                    else "",
                )
                for each in view.entitlements
            ),
        )
    write_table(
        "Latest authorizations",
        ["decided", "kind", "merchant", "terminal", "amount>", "decision"],
        (
            (
                f"{calendar.local(epoch_us(each.decided_at)):%m-%d %H:%M:%S}",
                each.kind,
                each.merchant,
                each.terminal,
                display_minor(each.amount_minor),
                each.explanation or each.outcome,
            )
            for each in view.authorizations
        ),
    )


def _write_chip(chip: ChipView) -> None:
    said = (
        f", {display_minor(chip.proven_missing_minor)} of it proven up to {chip.proven_counter}"
        if chip.proven_counter >= 0
        else ""
    )
    write(f"chip counter {chip.highest}, {chip.missing_count} records missing{said}")

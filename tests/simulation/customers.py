"""What happens at the tills: each deal is a message and what follows from it.

A deal runs in a task of its own and goes on where it knows how the last message ended, as a
cashier would: no void of a sale that nobody knows the end of.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio  # noqa: TID251 - the simulation owns its clock

from protocols.card_number import CardNumber, numbered_card
from protocols.message import Kind
from tests.simulation.acquirer import Acquirer, Step
from tests.simulation.workers import FOREIGN_BIN

if TYPE_CHECKING:
    from tests.simulation.town import Town

STRANGER = 99
"""A card that was never issued."""
FOREIGNER = 0
"""The card number of all cards that another city issued."""
HOST_BEHAVIOURS = (0, 0, 0, 0, 5, 10, 51, 70, 71, 72, 73, 91)
"""See loadtest.host: approve, decline, partly, be silent, late, answer twice, hang up."""
DEALS_MAX = 26
RUSH_DEALS = 32
RUSH_SECONDS_MAX = 0.1
"""About what a batch takes, so that batches of several workers overlap all the time."""
THINKING_SECONDS = (0.0, 0.3, 4.0)
LONG_SECONDS = 110.0
"""Around the time after which a hold of the simulation expires."""


class Customers:
    """All deals of a town."""

    def __init__(self, town: Town, dice: Random) -> None:
        self._town = town
        self._dice = dice
        deals = {
            self._sale: 6,
            self._sale_and_void: 2,
            self._sale_and_refunds: 2,
            self._sale_and_adjustment: 1,
            self._sale_and_second_thoughts: 2,
            self._preauthorization: 4,
            self._load: 2,
            self._offline_sale: 1,
            self._inquiry: 1,
        }
        if town.forwards is not None:
            deals[self._foreign_sale] = 8
        self._deals = [deal for deal, weight in deals.items() for _ in range(weight)]

    async def come(self, tasks: trio.Nursery) -> None:
        """One after the other, until the last has come; their deals may take longer."""
        dice, rush = self._dice, self._town.rush
        for _ in range(RUSH_DEALS if rush else dice.randrange(6, DEALS_MAX)):
            deal = self._sale if rush and dice.random() < 0.8 else dice.choice(self._deals)
            tasks.start_soon(deal, dice.choice(self._town.acquirers))
            seconds_max = RUSH_SECONDS_MAX if rush else 3.0
            await trio.sleep(dice.choice((0.0, 0.01, dice.uniform(0, seconds_max))))
            self._town.something_happens()

    # ---- deals ----

    async def _sale(self, acquirer: Acquirer) -> Step:
        step = self._first(Kind.PURCHASE, acquirer)
        await acquirer.ask(step)
        await self._think()
        return step

    async def _sale_and_void(self, acquirer: Acquirer) -> None:
        sale = await self._sale(acquirer)
        if sale.standing_minor:
            await acquirer.ask(acquirer.following(Kind.VOID, sale))

    async def _sale_and_refunds(self, acquirer: Acquirer) -> None:
        """One or two at once, each of them of all or of a part: together they may be too much."""
        sale = await self._sale(acquirer)
        if not sale.standing_minor:
            return
        async with trio.open_nursery() as refunds:
            for _ in range(self._dice.choice((1, 2, 2))):
                minor = self._dice.choice((sale.standing_minor, (sale.standing_minor + 1) // 2))
                refund = acquirer.following(Kind.REFUND, sale, minor)
                refunds.start_soon(acquirer.tell, refund)

    async def _sale_and_adjustment(self, acquirer: Acquirer) -> None:
        sale = await self._sale(acquirer)
        if sale.standing_minor:
            total_minor = max(1, sale.standing_minor + self._dice.choice((-50, 0, 50)))
            difference_minor = total_minor - sale.standing_minor
            adjustment = acquirer.following(Kind.ADJUSTMENT, sale, total_minor)
            adjustment.restated_minor = abs(difference_minor)
            adjustment.sign = 1 if difference_minor < 0 else -1
            await acquirer.tell(adjustment)

    async def _sale_and_second_thoughts(self, acquirer: Acquirer) -> None:
        """Reversed although it was answered, or all but a part of it."""
        sale = await self._sale(acquirer)
        if not sale.standing_minor:
            return
        if acquirer.terms.dialect == "iso87_ascii" and sale.standing_minor > 1:
            await acquirer.reverse(sale, replacement_minor=sale.standing_minor // 2)
        else:
            await acquirer.reverse(sale)

    async def _preauthorization(self, acquirer: Acquirer) -> None:
        hold = self._first(Kind.PREAUTHORIZATION, acquirer)
        await acquirer.ask(hold)
        await self._think(LONG_SECONDS)
        if not hold.standing_minor:
            return
        match self._dice.choice(("forgotten", "cancelled", "completed", "completed", "voided")):
            case "cancelled":
                await acquirer.ask(acquirer.following(Kind.PREAUTHORIZATION_CANCEL, hold))
            case "completed":
                await self._complete(acquirer, hold)
            case "voided":
                completion = await self._complete(acquirer, hold)
                await self._think()
                if completion.standing_minor:
                    await acquirer.ask(acquirer.following(Kind.VOID, completion))
            case _:
                pass

    async def _complete(self, acquirer: Acquirer, hold: Step) -> Step:
        minor = self._dice.choice((hold.standing_minor, (hold.standing_minor + 1) // 2))
        completion = acquirer.following(Kind.COMPLETION, hold, minor)
        await acquirer.ask(completion)
        return completion

    async def _load(self, acquirer: Acquirer) -> None:
        load = self._first(Kind.LOAD_PENDING, acquirer)
        await acquirer.ask(load)
        await self._think(LONG_SECONDS)
        if load.standing_minor and self._dice.random() < 0.8:
            await acquirer.tell(acquirer.following(Kind.LOAD, load))

    async def _offline_sale(self, acquirer: Acquirer) -> None:
        await acquirer.tell(self._first(Kind.OFFLINE_SALE, acquirer))

    async def _inquiry(self, acquirer: Acquirer) -> None:
        await acquirer.enquire(self._first(Kind.INQUIRY, acquirer))

    async def _foreign_sale(self, acquirer: Acquirer) -> None:
        """A card of another city, whose issuer's host does what the amount's last digits say."""
        amount_minor = 500 + self._dice.choice(HOST_BEHAVIOURS)
        card = numbered_card(FOREIGN_BIN, self._dice.randrange(1, 4))
        sale = acquirer.first(Kind.PURCHASE, acquirer.sale(card, amount_minor), FOREIGNER)
        await acquirer.ask(sale)
        await self._think()
        if sale.standing_minor and self._dice.random() < 0.3:
            await acquirer.reverse(sale)

    # ---- what they draw ----

    def _first(self, kind: Kind, acquirer: Acquirer) -> Step:
        card, number = self._card()
        return acquirer.first(kind, acquirer.sale(card, self._amount_minor()), number)

    def _card(self) -> tuple[CardNumber, int]:
        cards = len(self._town.opening_minor)
        number = self._dice.choice([*range(1, cards + 1), 1, 1])
        if self._town.rush:
            number = 1
        elif self._dice.random() < 0.03:
            number = STRANGER
        return numbered_card("621299", number), number

    def _amount_minor(self) -> int:
        return self._dice.choice((1, 100, 900, self._dice.randrange(1, 3_000)))

    async def _think(self, seconds_max: float = 0.0) -> None:
        seconds = self._dice.choice(THINKING_SECONDS)
        if seconds_max and self._dice.random() < 0.2:
            seconds = self._dice.uniform(0, seconds_max * 1.5)
        await trio.sleep(seconds)

"""A card's account is asked for once, in batches, and never guessed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from protocols.card_number import numbered_card
from switch.clock import SystemClock
from switch.ledger import directory as directory_module
from switch.ledger.cards import NewCard, issue, medium_of
from switch.ledger.directory import Directory, Place
from switch.ledger.failures import LedgerLost
from switch.ledger.store import MediumStore
from switch.metrics import Metrics
from tests.simulation.model_ledger import (
    FakeClock,
    Fault,
    Faults,
    Loss,
    ModelConnection,
    ModelLedger,
    scripted,
    until,
)
from tests.simulation.model_ledger import medium_of as model_medium

NO_PLACE = object()
UNREACHABLE = object()


class Asked:
    """The one answer of each look-up."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.answers: list[list[Any]] = []

    def __call__(self, medium: bytes) -> list[Any]:
        heard: list[Any] = []
        self.answers.append(heard)
        self.directory.ask(
            medium,
            lambda place: heard.append(place if place is not None else NO_PLACE),
            lambda: heard.append(UNREACHABLE),
        )
        return heard

    @property
    def all_answered(self) -> bool:
        return all(self.answers)


class Town:
    """A directory over the model ledger, which counts what it is asked."""

    def __init__(self, faults: Faults | None = None, *, cache_max: int = 100) -> None:
        self.ledger = ModelLedger(FakeClock(), faults)
        self.finds: list[int] = []
        self.opened: list[ModelConnection] = []
        self.directory = Directory(self.open, cache_max, SystemClock(), Metrics())
        self.ask = Asked(self.directory)

    async def open(self) -> ModelConnection:
        connection = await self.ledger.open()
        self.opened.append(connection)
        find: Callable[[list[bytes]], Awaitable[dict[bytes, Place]]] = connection.find

        async def counted(mediums: list[bytes]) -> dict[bytes, Place]:
            self.finds.append(len(mediums))
            return await find(mediums)

        connection.find = counted  # type: ignore[method-assign]
        return connection

    def issue(self, *numbers: int) -> list[bytes]:
        for number in numbers:
            self.ledger.issue(number)
        return [medium_of_model(number) for number in numbers]


def medium_of_model(number: int) -> bytes:
    return model_medium(numbered_card("621299", number))


@asynccontextmanager
async def running(town: Town) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(town.directory.run)
        with anyio.fail_after(20):
            yield
            await until(lambda: town.ask.all_answered, turns=100_000)
        tasks.cancel_scope.cancel()
    assert all(len(heard) == 1 for heard in town.ask.answers)
    assert all(connection.closed for connection in town.opened), "a connection was left open"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "RECONNECT_SECONDS", 0.001)


async def test_a_card_is_asked_for_once() -> None:
    town = Town()
    async with running(town):
        await until(lambda: bool(town.opened))
        (medium,) = town.issue(7)
        assert town.directory.cached(medium) is None
        heard = town.ask(medium)
        await until(lambda: bool(heard))
    (place,) = heard
    assert town.directory.cached(medium) == place
    assert place.account_id == 1_000_007
    assert town.finds == [1]


async def test_what_gathers_during_a_look_up_is_asked_for_together() -> None:
    hold = anyio.Event()
    town = Town(scripted(find=[Fault(hang=hold)]))
    async with running(town):
        town.ask(medium_of_model(1))
        await until(lambda: bool(town.finds))
        for number in (2, 3, 3, 3):
            town.ask(medium_of_model(number))
        hold.set()
    assert town.finds == [1, 2]


async def test_an_unknown_card_is_not_remembered() -> None:
    town = Town()
    async with running(town):
        before = town.ask(medium_of_model(5))
        await until(lambda: bool(before))
        town.issue(5)
        after = town.ask(medium_of_model(5))
    assert before == [NO_PLACE]
    assert isinstance(after[0], Place)


async def test_the_cache_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    town = Town(cache_max=3)
    async with running(town):
        await until(lambda: bool(town.opened))
        await until(lambda: not town.directory._warm_below)
        mediums = town.issue(1, 2, 3, 4)
        for medium in mediums[:3]:
            heard = town.ask(medium)
            await until(lambda heard=heard: bool(heard))
        assert town.directory.cached(mediums[0]) is not None  # used again
        heard = town.ask(mediums[3])
        await until(lambda: bool(heard))
    known = [town.directory.cached(medium) is not None for medium in mediums]
    assert known == [True, False, True, True]


async def test_a_start_reads_the_newest_cards_ahead_and_no_more_than_fit() -> None:
    town = Town(cache_max=3)
    mediums = town.issue(1, 2, 3, 4, 5)
    async with running(town):
        await until(lambda: not town.directory._warm_below)
    known = [town.directory.cached(medium) is not None for medium in mediums]
    assert known == [False, False, True, True, True]
    assert town.finds == []


async def test_a_connection_that_was_lost_meanwhile_is_opened_again_for_the_same_question() -> None:
    town = Town(scripted(find=[Fault(loss=Loss.BEFORE_COMMIT)]))
    async with running(town):
        (medium,) = town.issue(1)
        heard = town.ask(medium)
    assert isinstance(heard[0], Place)


@pytest.mark.parametrize(
    "faults",
    [
        {"find": [Fault(loss=Loss.BEFORE_COMMIT)] * 2},
        {"find": [Fault(loss=Loss.BEFORE_COMMIT), Fault(refused="53300")]},
        {"find": [Fault(refused="57014")]},
        {"find": [Fault(loss=Loss.BEFORE_COMMIT)], "open": [Fault(), Fault(refused="53300")]},
    ],
)
async def test_a_ledger_that_cannot_be_asked_is_said_to_be_unreachable(
    faults: dict[str, list[Fault]],
) -> None:
    town = Town(scripted(**faults))
    async with running(town):
        await until(lambda: not town.directory._warm_below)
        first = town.ask(medium_of_model(1))
        await until(lambda: bool(first), turns=100_000)
        second = town.ask(medium_of_model(1))
    assert (first, second) == ([UNREACHABLE], [NO_PLACE])


async def test_more_questions_than_may_wait_are_turned_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory_module, "PENDING_MAX", 3)
    hold = anyio.Event()
    town = Town(scripted(find=[Fault(hang=hold)]))
    async with running(town):
        first = town.ask(medium_of_model(1))
        await until(lambda: bool(town.finds))
        waiting = [town.ask(medium_of_model(number)) for number in range(2, 6)]
        assert waiting == [[], [], [], [UNREACHABLE]]
        hold.set()
    assert first == [NO_PLACE]


async def test_the_table_of_mediums(books: Any, database: str) -> None:
    new = [NewCard(numbered_card("621299", 900_000 + number)) for number in range(5)]
    issued = await issue(
        books.connection, new, shards=books.shards, key=books.key, overdraft_minor=0
    )
    mediums = [medium_of(one.card, books.key) for one in new]
    places = [Place(card.shard, card.account_id, card.card_id) for card in issued]
    store = await MediumStore.open(database, 10)
    found = await store.find([*mediums, b"nobody has this!"])
    assert found == dict(zip(mediums, places, strict=True))
    known = zip(mediums, places, strict=True)
    newest = sorted(known, key=lambda one: one[1].card_id, reverse=True)
    assert await store.newest(1 << 62, 100) == newest
    assert await store.newest(newest[1][1].card_id, 2) == newest[2:4]
    store.terminate()
    with pytest.raises(LedgerLost):
        await store.find(mediums)

"""Guards on a real ledger: exchanges, overlap, other workers, and PIN blocks of the peer."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from protocols.card_number import numbered_card
from protocols.iso8583 import Message, decode, encode, spec_named
from protocols.iso8583.mac import sealed
from protocols.iso8583.tlv import Element, build
from protocols.pin_block import pin_block_of
from switch.clock import SystemClock
from switch.config import parse
from switch.keystore import key_block, working
from switch.keystore.seam import Algorithm, KeyStoreError, Usage
from switch.keystore.software import PIN_VERIFICATION_LABEL, SoftwareKeyStore, make_store
from switch.ledger import bridge, link_keys
from switch.net.guard import EXCHANGES_WAITING_MAX, Guards, LinkGuard, PinBlockRefused, guards_for

pytestmark = pytest.mark.filterwarnings("ignore:.*TripleDES")  # psec's spelling of it
LINK = "retail-1"
SPEC = spec_named("unionpay_pos")
CARD = numbered_card("621234", 7)
SALE = Message("0200", {3: "000000", 4: "000000001250", 11: "000001", 41: "T0000001"})
ZONE = {"x9.19": bytes(range(16)), "aes_cmac": bytes(range(32)), "none": bytes(range(16))}
OVERLAP_MINUTES = 60
METHODS = ("x9.19", "aes_cmac")


class ShiftedClock(SystemClock):
    def __init__(self) -> None:
        self.shift_ns = 0

    def advance(self, seconds: float) -> None:
        self.shift_ns += int(seconds * 1e9)

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.shift_ns


class Scene:
    """One key store, one ledger, and as many workers as a test wants."""

    def __init__(self, database: str, store_file: Path) -> None:
        self.clock = ShiftedClock()
        make_store(store_file, self.clock)
        self.store = SoftwareKeyStore(store_file, self.clock)
        self.open_ledger = functools.partial(bridge.connect, database)

    def install(self, method: str, link: str = LINK) -> None:
        algorithm = working.algorithm_for(method)  # type: ignore[arg-type]
        zone = [ZONE[method], bytes((b * 37 + 11) % 256 for b in ZONE[method])]
        self.store.install(working.zone_label(link), Usage.ZONE, algorithm, zone, "")

    def opened(self, blocks: str, link: str = LINK) -> dict[Usage, bytes]:
        """The clear keys that the peer finds in an answer, by usage."""
        zone = self.store.find(working.zone_label(link))
        assert zone is not None
        found = [
            key_block.unwrap(block, self.store._key(zone), zone.algorithm)
            for block in key_block.split(blocks)
        ]
        return {one.usage: one.key for one in found}

    @asynccontextmanager
    async def worker(self, method: str, **more) -> AsyncIterator[Guards]:
        more = {"poll_seconds": 0.05} | more
        guards = Guards(
            {LINK: method},  # type: ignore[dict-item]
            self.store,
            self.open_ledger,
            OVERLAP_MINUTES,
            self.clock,
            **more,
        )
        await guards.load()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(guards.run)
            yield guards
            tasks.cancel_scope.cancel()


@pytest.fixture
def scene(database: str, tmp_path: Path, ledger_loop: None) -> Scene:
    return Scene(database, tmp_path / "key_store.json")


def guard_of(guards: Guards) -> LinkGuard:
    guard = guards.of(LINK)
    assert guard is not None
    return guard


async def exchanged(guard: LinkGuard) -> str | None:
    """The answer to an exchange; None where it failed."""
    return await told(lambda done: guard.exchange(done, lambda: done(None)))


async def told(begin: Callable[[Callable[[str | None], None]], None]) -> str | None:
    answers: list[str | None] = []
    answered = anyio.Event()

    def done(answer: str | None) -> None:
        answers.append(answer)
        answered.set()

    begin(done)
    with anyio.fail_after(10):
        await answered.wait()
    (answer,) = answers
    return answer


async def until(true: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not true():  # noqa: ASYNC110 - nothing to wait on
            await anyio.sleep(0.01)


def verified(guard: LinkGuard, octets: bytes) -> object:
    return guard.verify(SPEC, octets, decode(SPEC, octets))


@pytest.mark.parametrize("method", METHODS)
async def test_an_exchange_gives_the_peer_keys_that_seal_both_ways(scene, method):
    scene.install(method)
    async with scene.worker(method) as guards:
        guard = guard_of(guards)
        assert verified(guard, sealed(SPEC, SALE, ZONE[method], method)) is None
        assert guard.seal(SPEC, SALE) == encode(SPEC, SALE)
        text = await exchanged(guard)
        assert text is not None
        assert len(text) < 999
        key = scene.opened(text)[Usage.MAC]
        octets = sealed(SPEC, SALE, key, method)
        seal = verified(guard, octets)
        assert seal
        assert guard.seal(SPEC, SALE, seal) == octets
        assert verified(guard, encode(SPEC, SALE)) is None
        changed = bytearray(octets)
        changed[-1] ^= 1
        assert verified(guard, bytes(changed)) is None


@pytest.mark.parametrize("method", METHODS)
async def test_the_key_before_is_good_for_the_overlap_and_answers_use_the_request_s(scene, method):
    scene.install(method)
    async with scene.worker(method) as guards:
        guard = guard_of(guards)
        first = scene.opened(await exchanged(guard) or "")[Usage.MAC]
        scene.clock.advance(61)
        second = scene.opened(await exchanged(guard) or "")[Usage.MAC]
        assert first != second
        with_first, with_second = (sealed(SPEC, SALE, key, method) for key in (first, second))
        old_seal, new_seal = verified(guard, with_first), verified(guard, with_second)
        assert old_seal
        assert new_seal
        assert guard.seal(SPEC, SALE, old_seal) == with_first
        assert guard.seal(SPEC, SALE, new_seal) == with_second
        assert verified(guard, with_first)
        assert guard.seal(SPEC, SALE) == with_first  # what the peer used last
        scene.clock.advance(OVERLAP_MINUTES * 60)
        assert verified(guard, with_first) is None
        assert verified(guard, with_second)
        # a request that was under way when its key ran out is still answered under it
        assert guard.seal(SPEC, SALE, old_seal) == with_first


async def test_connections_that_ask_at_the_same_time_get_the_same_keys(scene):
    scene.install("x9.19")
    async with scene.worker("x9.19") as guards:
        guard = guard_of(guards)
        answers: list[str | None] = []

        async def ask() -> None:
            answers.append(await exchanged(guard))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
        keys = [scene.opened(answer or "") for answer in answers]
        assert keys == [keys[0]] * 5
    connection = await scene.open_ledger()
    assert await link_keys.newest(connection) == 1
    await connection.close()


async def test_another_worker_has_the_keys_soon_and_at_once_after_a_wrong_mac(scene):
    scene.install("x9.19")
    patient = {"poll_seconds": 60.0}
    async with scene.worker("x9.19") as ours, scene.worker("x9.19", **patient) as theirs:
        key = scene.opened(await exchanged(guard_of(ours)) or "")[Usage.MAC]
        octets = sealed(SPEC, SALE, key, "x9.19")
        assert verified(guard_of(theirs), octets) is None
        await until(lambda: verified(guard_of(theirs), octets))


async def test_keys_outlive_a_restart(scene):
    scene.install("x9.19")
    async with scene.worker("x9.19") as guards:
        key = scene.opened(await exchanged(guard_of(guards)) or "")[Usage.MAC]
    async with scene.worker("x9.19") as guards:
        assert verified(guard_of(guards), sealed(SPEC, SALE, key, "x9.19"))


async def test_an_answer_waits_until_other_workers_have_looked(scene):
    scene.install("x9.19")
    async with scene.worker("x9.19", settle_seconds=0.2) as guards:
        started = anyio.current_time()
        assert await exchanged(guard_of(guards))
        assert anyio.current_time() - started >= 0.2


async def test_without_a_zone_key_an_exchange_fails_and_nothing_is_stored(scene):
    async with scene.worker("x9.19") as guards:
        assert await exchanged(guard_of(guards)) is None
    connection = await scene.open_ledger()
    assert await link_keys.newest(connection) == 0
    await connection.close()


async def test_a_ledger_that_is_away_fails_an_exchange_and_is_tried_again(scene):
    scene.install("x9.19")
    open_ledger, away = scene.open_ledger, [True]

    async def sometimes() -> bridge.Connection:
        if away[0]:
            raise ConnectionRefusedError
        return await open_ledger()

    scene.open_ledger = sometimes
    async with scene.worker("x9.19") as guards:
        assert await exchanged(guard_of(guards)) is None
        away[0] = False
        assert await exchanged(guard_of(guards))


async def test_a_lost_connection_is_opened_again(scene):
    scene.install("x9.19")
    open_ledger, opened = scene.open_ledger, []

    async def noted() -> bridge.Connection:
        opened.append(await open_ledger())
        return opened[-1]

    scene.open_ledger = noted
    async with scene.worker("x9.19") as guards:
        opened[0].terminate()
        await until(lambda: len(opened) > 1)
        assert await exchanged(guard_of(guards))


async def test_too_many_that_wait_fail_at_once(scene):
    scene.install("x9.19")
    guards = Guards({LINK: "x9.19"}, scene.store, scene.open_ledger, 60, scene.clock)
    failed: list[None] = []
    for _ in range(EXCHANGES_WAITING_MAX + 3):
        guard_of(guards).exchange(lambda _: None, lambda: failed.append(None))
    assert len(failed) == 3


async def test_keys_that_the_peer_made_are_taken_and_the_newest_is_used(scene):
    scene.install("x9.19")
    async with scene.worker("x9.19", upstreams={LINK}) as guards:
        guard = guard_of(guards)
        for _ in range(2):
            made = working.make(scene.store, LINK, "x9.19")
            blocks = working.for_peer(scene.store, LINK, "x9.19", made)
            key = scene.opened(blocks)[Usage.MAC]
            assert await received(guard, blocks) == ""
            assert guard.seal(SPEC, SALE) == sealed(SPEC, SALE, key, "x9.19")
            assert verified(guard, sealed(SPEC, SALE, key, "x9.19"))
        assert await received(guard, "no block at all") is None
        assert await received(guard, blocks[:96]) == ""  # a MAC key alone will do
        assert await received(guard, blocks[96:]) is None
        assert await received(guard, blocks[:96] * 2) is None


async def received(guard: LinkGuard, blocks: str) -> str | None:
    return await told(lambda done: guard.receive(blocks, lambda: done(""), lambda: done(None)))


async def test_rows_of_another_key_store_are_left_alone(scene, tmp_path):
    scene.install("x9.19")
    async with scene.worker("x9.19") as guards:
        old = scene.opened(await exchanged(guard_of(guards)) or "")[Usage.MAC]
    other = tmp_path / "other.json"
    make_store(other, scene.clock)
    scene.store = SoftwareKeyStore(other, scene.clock)
    scene.install("x9.19")
    async with scene.worker("x9.19") as guards:
        guard = guard_of(guards)
        assert verified(guard, sealed(SPEC, SALE, old, "x9.19")) is None
        key = scene.opened(await exchanged(guard) or "")[Usage.MAC]
        assert verified(guard, sealed(SPEC, SALE, key, "x9.19"))


async def test_a_row_that_was_moved_to_another_link_opens_nothing(scene):
    scene.install("x9.19")
    scene.install("x9.19", "retail-2")
    async with scene.worker("x9.19") as guards:
        key = scene.opened(await exchanged(guard_of(guards)) or "")[Usage.MAC]
    connection = await scene.open_ledger()
    rows = await link_keys.read(connection, [LINK])
    moved = [link_keys.WrappedKey(row.usage, row.block, row.kcv) for row in rows]
    await link_keys.append(connection, "retail-2", moved)
    await connection.close()
    both = {LINK: "x9.19", "retail-2": "x9.19"}
    guards = Guards(both, scene.store, scene.open_ledger, 60, scene.clock)  # type: ignore[arg-type]
    await guards.load()
    octets = sealed(SPEC, SALE, key, "x9.19")
    other = guards.of("retail-2")
    assert other is not None
    assert verified(guard_of(guards), octets)
    assert verified(other, octets) is None


# ---- PINs ------------------------------------------------------------------------------------


def with_pin(key: bytes, pin: str, *, chip: bool = False) -> Message:
    block = pin_block_of(pin, key, CARD)
    if chip:
        elements = [Element("9F36", b"\x00\x1a"), Element("99", block)]
        return Message("0200", SALE.fields | {55: build(elements)})
    return Message("0200", SALE.fields | {52: block})


@pytest.mark.parametrize("method", ["none", "x9.19", "aes_cmac"])
async def test_an_entered_pin_gives_the_reference_that_the_card_keeps(scene, method):
    scene.install(method)
    pvk = scene.store.find(PIN_VERIFICATION_LABEL)
    chosen = scene.store.reference_of_chosen_pin(pvk, "123456", CARD)
    chip = method == "aes_cmac"
    async with scene.worker(method) as guards:
        guard = guard_of(guards)
        assert guard.pin_of(SALE, CARD) == b""
        first = scene.opened(await exchanged(guard) or "")[Usage.PIN]
        scene.clock.advance(61)
        second = scene.opened(await exchanged(guard) or "")[Usage.PIN]
        for key in (first, second):
            assert guard.pin_of(with_pin(key, "123456", chip=chip), CARD) == chosen
            assert guard.pin_of(with_pin(key, "654321", chip=chip), CARD) != chosen
        with pytest.raises(PinBlockRefused):
            guard.pin_of(with_pin(key, "123456", chip=chip), numbered_card("621234", 8))
        scene.clock.advance(OVERLAP_MINUTES * 60)
        with pytest.raises(PinBlockRefused):
            guard.pin_of(with_pin(first, "123456", chip=chip), CARD)


async def test_a_pin_block_before_any_exchange_is_refused(scene):
    scene.install("none")
    async with scene.worker("none") as guards:
        with pytest.raises(PinBlockRefused, match="exchange keys"):
            guard_of(guards).pin_of(with_pin(bytes(range(16)), "1234"), CARD)


async def test_chip_octets_that_are_no_tags_hold_no_pin(scene):
    scene.install("none")
    async with scene.worker("none") as guards:
        message = Message("0200", SALE.fields | {55: b"\x99\x10short"})
        assert guard_of(guards).pin_of(message, CARD) == b""


# ---- what a configuration asks for -------------------------------------------------------------


async def test_a_link_without_mac_and_zone_key_needs_no_guard(scene):
    config = parse("", "citycard.toml")
    assert guards_for(config, None, scene.open_ledger, scene.clock).of(LINK) is None
    assert guards_for(config, scene.store, scene.open_ledger, scene.clock).of(LINK) is None
    scene.install("none")
    guard = guards_for(config, scene.store, scene.open_ledger, scene.clock).of(LINK)
    assert guard is not None
    assert guard.verify(SPEC, encode(SPEC, SALE), SALE)
    assert guard.seal(SPEC, SALE) == encode(SPEC, SALE)


def test_a_mac_without_a_key_store_is_told_at_the_start():
    config = parse('[[links]]\nname = "retail-1"\nmac = "x9.19"\n', "citycard.toml")
    with pytest.raises(KeyStoreError, match="citycard keys init"):
        guards_for(config, None, functools.partial(bridge.connect, ""), SystemClock())


async def test_a_zone_key_of_the_wrong_algorithm_is_told(scene):
    scene.install("x9.19")
    async with scene.worker("aes_cmac") as guards:
        assert await exchanged(guard_of(guards)) is None
    with pytest.raises(KeyStoreError, match=f"install one that is {Algorithm.AES.value}"):
        working.make(scene.store, LINK, "aes_cmac")

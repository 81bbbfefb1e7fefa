"""The reckoning of a life: what tills were told, held against what the ledger holds.

A message's fate follows from its own line and from that of its reversal. The ledger's rows
are found by the key of the message, the purses by the card. Nothing here asks the switch.

| told | then in the ledger |
|---|---|
| approved, not reversed | one approved row of that kind, with the amount told, not taken back |
| refused | no row that stands |
| reversed (00, or 25: never came) | no row that stands |
| approved, its reversal refused | one row that stands, or none: counted in `disputed` |
| nothing definite, and no reversal either | `unresolved`: nobody can know |
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from loadtest.life_lines import LifeLine
from loadtest.population import population_card
from protocols.message import Kind
from switch.keys import read_key
from switch.ledger import bridge
from switch.ledger.cards import medium_of

LEDGER_ROWS = """
select authorization_id, account_id, kind, terminal, stan, local_at, message_class, outcome,
       approved_minor, original_id, posted_at_us
from ledger.every_authorization
"""
PURSES = """
select m.medium, m.account_id, sum(p.balance_minor)::bigint as balance_minor,
       sum(p.held_minor)::bigint as held_minor
from ledger.medium m join ledger.purse p on p.shard = m.shard and p.account_id = m.account_id
group by m.medium, m.account_id
"""
OPEN_HOLDS = """
select account_id, authorization_id, amount_minor from ledger.hold
where status = 'open' and purpose = 'preauthorization'
"""
RESOLUTIONS = """
select authorization_id, count(*) filter (where status = 'open') as open, count(*) as times
from ledger.hold group by authorization_id
"""

ASKED_KINDS = frozenset(
    {
        Kind.PURCHASE.value,
        Kind.VOID.value,
        Kind.REFUND.value,
        Kind.PREAUTHORIZATION.value,
        Kind.PREAUTHORIZATION_CANCEL.value,
        Kind.COMPLETION.value,
    }
)
"""Rows of these kinds are what a message asked for; the others only follow from one."""

_NOT_FOUND = "25"


class Reckoned(msgspec.Struct):
    """What was found. `lost` and `double` name messages; `wrong` is everything else."""

    acknowledged: int = 0
    unresolved: int = 0
    disputed: int = 0
    lost: list[str] = []
    double: list[str] = []
    wrong: list[str] = []
    evidence: list[str] = []

    @property
    def sound(self) -> bool:
        return not (self.lost or self.double or self.wrong)

    @property
    def worst(self) -> list[str]:
        return [*self.lost, *self.double, *self.wrong][:10] + self.evidence


class LedgerState(msgspec.Struct, frozen=True):
    """Rows of the ledger, read at once after the traffic."""

    rows: list[Any]
    purses: dict[bytes, Any]
    open_holds: list[Any]
    holds: list[Any]


class Fate(msgspec.Struct, frozen=True):
    """What became of one message as far as its till knows."""

    line: LifeLine
    reversal: LifeLine | None

    @property
    def stands(self) -> bool | None:
        """Whether it stands; None where its till cannot know."""
        if self.reversal is not None:
            if self.reversal.indefinite:
                return None
            if self.reversal.code in ("00", _NOT_FOUND):
                return False
            # Refused: what was told before that holds, if anything was.
            return None if self.line.indefinite else self.line.approved
        return None if self.line.indefinite else self.line.approved


def read_ledger(url: str) -> LedgerState:
    """Everything that the reckoning needs, by one connection."""

    async def fetch() -> LedgerState:
        connection = await bridge.connect(url)
        try:
            purses = await connection.fetch(PURSES)
            return LedgerState(
                list(await connection.fetch(LEDGER_ROWS)),
                {bytes(row["medium"]): row for row in purses},
                list(await connection.fetch(OPEN_HOLDS)),
                list(await connection.fetch(RESOLUTIONS)),
            )
        finally:
            await connection.close()

    return bridge.run("asyncio", fetch)


def fates_of(lines: Iterable[LifeLine]) -> list[Fate]:
    """Each message with its reversal; inquiries move nothing and are left out."""
    lines = list(lines)
    reversals = {line.about: line for line in lines if line.kind == Kind.REVERSAL.value}
    return [
        Fate(line, reversals.get(line.key))
        for line in lines
        if line.kind not in (Kind.REVERSAL.value, Kind.INQUIRY.value)
    ]


def reckon_life(
    lines: list[LifeLine], ledger: LedgerState, key_file: Path, opening_minor: dict[int, int]
) -> Reckoned:
    """Hold the lines against the ledger; `opening_minor` is what each card began with."""
    found = Reckoned(
        acknowledged=sum(1 for line in lines if line.code),
        lost=[],
        double=[],
        wrong=[],
        evidence=[],
    )
    fates = fates_of(lines)
    keys = Counter(fate.line.key for fate in fates)
    found.wrong += [f"{key}: used {count} times" for key, count in keys.items() if count > 1]
    standing = _standing_by_key(ledger.rows)
    for fate in fates:
        _each_as_told(fate, standing[fate.line.key, fate.line.kind], found)
    known = {(fate.line.key, fate.line.kind) for fate in fates}
    found.wrong += [
        f"{key}: a {kind} stands in the ledger and no till asked for it"
        for (key, kind), rows in standing.items()
        if rows and (key, kind) not in known
    ]
    _holds(fates, ledger, found)
    _purses(fates, ledger, standing, key_file, opening_minor, found)
    _never_more_than_was_paid(fates, standing, found)
    if not found.sound:
        found.evidence = _evidence(found, lines, ledger)
    return found


def _evidence(found: Reckoned, lines: list[LifeLine], ledger: LedgerState) -> list[str]:
    """What was said and stored of the first message that is not as it should be."""
    named = [*found.double, *found.lost, *found.wrong]
    suspect = next((line for line in lines if any(line.key in words for words in named)), None)
    if suspect is None:
        return []
    terminal, stan, local_at, _ = suspect.key.split("-")
    said = [line for line in lines if suspect.key in (line.key, line.about)]
    stored = [
        dict(row)
        for row in ledger.rows
        if (row["terminal"], row["stan"], row["local_at"]) == (terminal, stan, local_at)
    ]
    ids = {row["authorization_id"] for row in stored}
    stored += [dict(row) for row in ledger.rows if row["original_id"] in ids]
    return [*(f"said {line}" for line in said), *(f"stored {row}" for row in stored)]


Standing = dict[tuple[str, str], list[int]]


def _standing_by_key(rows: list[Any]) -> Standing:
    """What stands of each message's own rows, in minor units, by key and kind."""
    taken_minor: dict[int, int] = defaultdict(int)
    for row in rows:
        if row["kind"] == Kind.REVERSAL.value and row["outcome"] == "approved":
            taken_minor[row["original_id"]] += row["approved_minor"]
    standing: Standing = defaultdict(list)
    for row in rows:
        if row["outcome"] != "approved" or row["kind"] not in ASKED_KINDS:
            continue
        left_minor = row["approved_minor"] - taken_minor[row["authorization_id"]]
        key = f"{row['terminal']}-{row['stan']}-{row['local_at']}-{row['message_class']}"
        if left_minor:
            standing[key, row["kind"]].append(left_minor)
    return standing


def _each_as_told(fate: Fate, stands_minor: list[int], found: Reckoned) -> None:
    line = fate.line
    name = f"{line.kind} {line.key} (told {line.code or 'nothing'})"
    if len(stands_minor) > 1:
        found.double.append(f"{name}: stands {len(stands_minor)} times")
    match fate.stands:
        case True:
            if fate.reversal is not None:
                found.disputed += 1
            told_minor = line.approved_minor
            if not stands_minor:
                found.lost.append(f"{name}: does not stand")
            elif stands_minor[0] != told_minor:
                found.wrong.append(f"{name}: {stands_minor[0]} stand, told {told_minor}")
        case False:
            if stands_minor:
                reversal = fate.reversal.code if fate.reversal else "none"
                found.double.append(f"{name}, reversal {reversal}: stands all the same")
        case None:
            found.unresolved += 1


def _holds(fates: list[Fate], ledger: LedgerState, found: Reckoned) -> None:
    """Held money is that of open holds, and open is what nobody completed or cancelled."""
    held_minor: dict[int, int] = defaultdict(int)
    for hold in ledger.open_holds:
        held_minor[hold["account_id"]] += hold["amount_minor"]
    for purse in ledger.purses.values():
        if purse["held_minor"] != held_minor[purse["account_id"]]:
            found.wrong.append(f"account {purse['account_id']}: held money and open holds differ")
    found.wrong += [
        f"authorization {hold['authorization_id']}: {hold['open']} open holds"
        for hold in ledger.holds
        if hold["open"] > 1
    ]
    resolved = Counter(
        fate.line.about
        for fate in fates
        if fate.line.kind in (Kind.COMPLETION.value, Kind.PREAUTHORIZATION_CANCEL.value)
        and fate.stands is True
    )
    voided = {fate.line.about for fate in fates if fate.line.kind == "void" and fate.stands is True}
    for fate in fates:
        if fate.line.kind == Kind.COMPLETION.value and fate.line.key in voided:
            resolved[fate.line.about] -= 1
    unknown = {fate.line.about for fate in fates if fate.stands is None}
    open_ids = {hold["authorization_id"] for hold in ledger.open_holds}
    by_key = {
        f"{row['terminal']}-{row['stan']}-{row['local_at']}-{row['message_class']}": row
        for row in ledger.rows
        if row["kind"] == Kind.PREAUTHORIZATION.value and row["outcome"] == "approved"
    }
    for fate in fates:
        key = fate.line.key
        if fate.line.kind != Kind.PREAUTHORIZATION.value or fate.stands is None or key in unknown:
            continue
        if resolved[key] > 1:
            found.double.append(f"hold {key}: resolved {resolved[key]} times")
        row = by_key.get(key)
        is_open = row is not None and row["authorization_id"] in open_ids
        if is_open != (fate.stands is True and not resolved[key]):
            told = f"stands {fate.stands}, resolved {resolved[key]} times"
            found.wrong.append(f"hold {key}: {'' if is_open else 'not '}open, and told {told}")


_DIRECTION = {
    Kind.PURCHASE.value: -1,
    Kind.COMPLETION.value: -1,
    Kind.VOID.value: 1,
    Kind.REFUND.value: 1,
}


def _purses(
    fates: list[Fate],
    ledger: LedgerState,
    standing: Standing,
    key_file: Path,
    opening_minor: dict[int, int],
    found: Reckoned,
) -> None:
    """Each purse holds what it began with and what its card's tills were told.

    Where a till cannot know, what stands in the ledger is counted: that is no finding here.
    """
    expected_minor = dict(opening_minor)
    for fate in fates:
        line = fate.line
        direction = _DIRECTION.get(line.kind, 0)
        if fate.stands is True:
            expected_minor[line.card] += direction * line.approved_minor
        elif fate.stands is None:
            expected_minor[line.card] += direction * sum(standing[line.key, line.kind])
    key = read_key(key_file)
    for card, minor in expected_minor.items():
        purse = ledger.purses[medium_of(population_card(card), key=key)]
        if purse["balance_minor"] != minor:
            found.wrong.append(
                f"card {card}: {purse['balance_minor']} in the purse, by what was told {minor}"
            )


def _never_more_than_was_paid(fates: list[Fate], standing: Standing, found: Reckoned) -> None:
    """Voids and refunds give back at most what the sale, or the completion, took."""
    given_back_minor: dict[str, int] = defaultdict(int)
    for fate in fates:
        if fate.line.kind in (Kind.VOID.value, Kind.REFUND.value):
            given_back_minor[fate.line.about] += sum(standing[fate.line.key, fate.line.kind])
    for fate in fates:
        paid_minor = sum(standing[fate.line.key, fate.line.kind])
        if given_back_minor[fate.line.key] > paid_minor:
            found.double.append(
                f"{fate.line.kind} {fate.line.key}: {given_back_minor[fate.line.key]} given back "
                f"of {paid_minor}"
            )

"""The moods of a ledger: slow, lost, standing still, refusing, gone for a while.

`fault` is drawn for each call that reaches the model ledger. After `calm` there are none.
"""

from __future__ import annotations

from random import Random

import trio  # noqa: TID251 - the simulation owns its clock

from tests.simulation.model_ledger import NO_FAULT, Fault, Loss, ModelLedger

MOODS = ("slow", "lost", "stalled", "refused", "away")
POST_MOODS = ("slow", "late", "late", "late", "lost", "lost", "lost", "conflict", *MOODS[2:])
REFUSALS = ("40001", "55P03", "53100", "22000")
"""SQLSTATEs: serialization, lock timeout, disk full, and one that is the row's own fault."""
STORMS = (0.0, 0.05, 0.1, 0.2)
QUICK_SECONDS = 0.02
AWAY_SECONDS = (0.5, 5.0, 30.0)


class LedgerWeather:
    """Draws what each call meets."""

    def __init__(self, dice: Random, seconds_max: float = QUICK_SECONDS) -> None:
        self._dice = dice
        self._seconds_max = seconds_max
        self.storm = dice.choice(STORMS)
        self.calm = False
        self.outages = 0.0
        """How many of its faults are outages: stand-in is there for them."""
        self._stalled_until = 0.0
        self._away_until = 0.0
        self._refused = ""
        self._refused_until = 0.0

    def fault(self, call: str, ledger: ModelLedger) -> Fault:
        dice = self._dice
        if ledger.zombies and (self.calm or dice.random() < 0.2):
            ledger.run_zombies(1)
        if self.calm:
            return NO_FAULT
        before, after = self._delay(), self._delay()
        now = trio.current_time()
        if now < self._away_until:
            return Fault(seconds_before=before, loss=Loss.BEFORE_COMMIT)
        stalled = self._stalled_until - now
        if stalled > 0:
            # The whole server stands still, with some calls before and some after the commit.
            first = dice.choice((0.0, stalled))
            return Fault(seconds_before=before + first, seconds_after=after + stalled - first)
        if now < self._refused_until:
            return Fault(seconds_before=before, refused=self._refused)
        on_post = call == "post"
        if dice.random() >= self.storm * (2 if on_post else 1):
            return Fault(seconds_before=before, seconds_after=after)
        if self.outages and dice.random() < self.outages:
            return self._mood("away", before, after)
        return self._mood(dice.choice(POST_MOODS if on_post else MOODS), before, after)

    def _mood(self, mood: str, before: float, after: float) -> Fault:
        dice, now = self._dice, trio.current_time()
        match mood:
            case "slow":
                before = dice.uniform(0.1, 5)
            case "late":
                after = dice.uniform(0.1, 5)
            case "conflict":
                return Fault(seconds_before=before, seconds_after=after, conflict=True)
            case "lost":
                loss = dice.choice(list(Loss))
                return Fault(seconds_before=before, seconds_after=after, loss=loss)
            case "stalled":
                self._stalled_until = now + dice.uniform(0.1, 4)
            case "away":
                self._away_until = now + dice.choice(AWAY_SECONDS)
                return Fault(seconds_before=before, loss=dice.choice(list(Loss)))
            case _:
                # Once, or for a while: a disk that is full, a server that is read-only.
                self._refused = dice.choice(REFUSALS)
                self._refused_until = now + dice.choice((0.0, 0.3, 3.0))
                return Fault(seconds_before=before, refused=self._refused)
        return Fault(seconds_before=before, seconds_after=after)

    def _delay(self) -> float:
        """At once, often, where the ledger is quick; never where it is slow."""
        seconds = self._dice.uniform(0.0005, self._seconds_max)
        quick = self._seconds_max <= QUICK_SECONDS and self._dice.random() < 0.5
        return 0.0 if quick else seconds

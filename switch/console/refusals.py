"""What the ledger's modules raise when something may not be, as the problem it is told as."""

from __future__ import annotations

from risk.findings import RulesetError
from switch.console.problems import Fault, Problem, Refused, problem
from switch.ledger.explaining import ReferenceUnfit, SearchTooLong
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.ledger.list_acts import ActRejected, ActTooSlow
from switch.ledger.operators import NotAllowed
from switch.ledger.rule_lists import ListUnknown
from switch.ledger.rulesets import ActRefused, Refusal, RulesBusy, RulesetUnknown

DATA_EXCEPTION = "22"
"""The class of SQLSTATE (ISO 9075) for values that do not fit, such as a text with a zero byte."""
_BY_REFUSAL = {
    Refusal.WORDS: Fault.REFUSED,
    Refusal.REASON_MISSING: Fault.REFUSED,
    Refusal.PERCENT: Fault.REFUSED,
    Refusal.NOT_IN_FORCE: Fault.NOT_FOUND,
}
"""What is wrong with what was said; every other refusal is about how things stand."""


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error is; None for a fault of our own."""
    match error:
        case Refused():
            return error.problem
        case NotAllowed():
            return problem(Fault.FORBIDDEN, str(error))
        case RulesetUnknown():
            return problem(Fault.NOT_FOUND, str(error))
        case ActRefused():
            return problem(_BY_REFUSAL.get(error.refusal, Fault.STATE), str(error))
        case RulesBusy():
            return problem(Fault.AWAY, str(error))
        case ListUnknown():
            return problem(Fault.NOT_FOUND, "there is no list of this name; /v1/lists has them")
        case ReferenceUnfit():
            return problem(Fault.NOT_FOUND, str(error))
        case ActTooSlow() | SearchTooLong():
            return problem(Fault.AWAY, str(error))
        case ActRejected():
            return problem(Fault.REFUSED, str(error))
        case RulesetError():
            words = "mend what the findings name, and check it again"
            return problem(Fault.FINDINGS, words, findings=error.findings)
        case LedgerLost():
            words = "the ledger is away; look how it stands before you repeat an act"
            return problem(Fault.AWAY, words)
        case LedgerRefused() if error.transient:
            return problem(Fault.AWAY, "others were at work on the same; try again")
        case LedgerRefused() if error.sqlstate.startswith(DATA_EXCEPTION):
            return problem(Fault.REFUSED, "a value is none that the ledger can hold; check it")
        case _:
            return None

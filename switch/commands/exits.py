"""How a command ends: exit codes that mean something, and one sentence for each failure."""

from __future__ import annotations

from enum import IntEnum

import asyncpg
from cyclopts import CycloptsError, UnknownCommandError

from protocols.card_number import mask_digit_runs
from protocols.errors import ProtocolError
from risk.findings import RulesetError
from switch.config import ConfigError
from switch.keys import KeyFileError
from switch.keystore.seam import KeyStoreError
from switch.ledger import bridge
from switch.ledger.cards import CardNotFound, CardStaysClosed
from switch.ledger.embedded_places import EmbeddedServerError
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.ledger.migrate import LedgerUnfit
from switch.ledger.operators import NotAllowed, OperatorRefused
from switch.ledger.partitions import DayInUse, PartitionsBusy
from switch.ledger.rules_trail import ActRefused
from switch.ledger.ruleset_views import RulesetUnknown


class Exit(IntEnum):
    """Exit codes of all commands."""

    OK = 0
    FINDINGS = 1
    """What was checked or asked for is not so."""
    USAGE = 2
    """The command line, the configuration or the key does not fit."""
    LEDGER_UNREACHABLE = 3
    FAULT = 4
    """A fault in citycard itself."""
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command that cannot do what it was asked; the text is one sentence for people."""

    def __init__(self, sentence: str, exit: Exit = Exit.USAGE) -> None:
        super().__init__(mask_digit_runs(sentence))
        self.exit = exit


class LedgerUnreachable(CommandFailed):
    """No connection to the ledger, or it was lost."""

    def __init__(self, url: str, error: BaseException) -> None:
        super().__init__(
            f"the ledger at {bridge.without_secrets(url)} can't be reached "
            f"({bridge.reason_without_secrets(error)}); "
            "start it or give another with --database",
            Exit.LEDGER_UNREACHABLE,
        )


def explained(error: Exception) -> tuple[list[str], Exit]:
    """The sentences to print for an error, without card numbers, and the exit code."""
    match error:
        case CommandFailed():
            return [str(error)], error.exit
        case ConfigError():
            return str(error).splitlines(), Exit.USAGE
        case UnknownCommandError():
            return ["there is no such command; citycard --help lists them"], Exit.USAGE
        case CycloptsError():
            return [_one_sentence(str(error)) + "; see --help"], Exit.USAGE
        case RulesetUnknown() | ActRefused() | NotAllowed() | OperatorRefused():
            return [_one_sentence(str(error))], Exit.FINDINGS
        case RulesetError() | LedgerUnfit() | KeyFileError() | KeyStoreError():
            return [_one_sentence(str(error))], Exit.USAGE
        case CardNotFound() | CardStaysClosed() | ProtocolError() | DayInUse() | PartitionsBusy():
            return [_one_sentence(str(error))], Exit.FINDINGS
        case EmbeddedServerError():
            return [_one_sentence(str(error))], Exit.LEDGER_UNREACHABLE
        case LedgerLost():
            sentence = f"the ledger was lost ({error}); look what was posted before trying again"
            return [_one_sentence(sentence)], Exit.LEDGER_UNREACHABLE
        case LedgerRefused():
            return [_one_sentence(f"{error}; nothing was posted")], Exit.FINDINGS
        case asyncpg.UndefinedTableError() | asyncpg.InvalidSchemaNameError():
            return ["the database is no ledger yet; run `citycard init`"], Exit.USAGE
        case asyncpg.UndefinedFunctionError():
            return ["the ledger is older than this citycard; run `citycard init`"], Exit.USAGE
        case _:
            sentence = (
                f"{type(error).__name__} in citycard itself; run it with --debug to see where"
            )
            return [_one_sentence(sentence)], Exit.FAULT


def _one_sentence(text: str) -> str:
    return mask_digit_runs(" ".join(text.split())).rstrip(".")

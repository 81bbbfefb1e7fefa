"""`citycard serve`: prepares the ledger, shares out the ports and supervises the workers."""

from switch.app.serving import (
    LedgerUnreachable,
    PortTaken,
    ledger_url,
    open_ledger,
    prepare_ledger,
    serve,
)
from switch.app.supervisor import ReadyState, Supervisor

__all__ = [
    "LedgerUnreachable",
    "PortTaken",
    "ReadyState",
    "Supervisor",
    "ledger_url",
    "open_ledger",
    "prepare_ledger",
    "serve",
]

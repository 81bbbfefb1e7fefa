"""Stand-in: approving small, known sales while the ledger is away, and posting them afterwards.

Nothing is approved before it is in the spool, on disk; `policy` says what may be, `desk`
answers, `drain` posts. A switch that cannot write its spool approves nothing.
"""

from switch.standin.desk import Desk, desk_of
from switch.standin.drain import Drain
from switch.standin.spool import Spool, spool_path, with_spool_file
from switch.standin.spool_file import SpoolUnusable

__all__ = ["Desk", "Drain", "Spool", "SpoolUnusable", "desk_of", "spool_path", "with_spool_file"]

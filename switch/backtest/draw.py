"""`python -m switch.backtest.draw DIRECTORY ZONE`: draws the report of a result for its starter.

The result comes as JSON on stdin. Drawing takes seconds of a core, which a process that answers
others cannot spare.
"""

from __future__ import annotations

import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from risk.backtest_result import BacktestResult
from switch.backtest.report import ReportUnwritable, write_report


def main(directory: str, zone: str) -> int:
    """Write the report; 1 where it cannot be written, with the reason on stderr."""
    result = msgspec.json.decode(sys.stdin.buffer.read(), type=BacktestResult)
    try:
        write_report(result, Path(directory), zone=ZoneInfo(zone))
    except ReportUnwritable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""`python -m switch.backtest.shard`: replays some shards for the process that started it.

One line of JSON on stdin is the request; lines on stdout tell of progress and end with a tally.
Whoever started it stops it by SIGTERM, or by going away: its end of stdin closes.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time

from switch.backtest.failures import HistoryUnreadable, first_of
from switch.backtest.messages import (
    Done,
    Failed,
    Progress,
    ShardRequest,
    Told,
    decode_request,
    encode,
)
from switch.backtest.replaying import replay_shards
from switch.ledger import bridge

TOLD_EVERY_SECONDS = 0.2
GC_ALLOCATIONS = 1_000_000
_AWAY = (*bridge.CONNECTION_LOST, *bridge.CONNECTION_REFUSED, TimeoutError)


def main() -> int:
    """Replay one request; 1 where it could not be finished."""
    # What a replay makes is freed without a collector, and its accounts are many and stay.
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
    request = decode_request(sys.stdin.buffer.readline())
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    threading.Thread(target=_until_left, args=(stopped,), daemon=True).start()
    end = _replayed(request, stopped)
    _tell(end)
    return 0 if isinstance(end, Done) else 1


def _replayed(request: ShardRequest, stopped: threading.Event) -> Done | Failed:
    told_at = time.monotonic()

    def told(rows: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= TOLD_EVERY_SECONDS:
            told_at = time.monotonic()
            _tell(Progress(rows))

    async def replay() -> Done:
        return Done(await replay_shards(request, told=told, stopping=stopped.is_set))

    try:
        return bridge.run("asyncio", replay)
    except* HistoryUnreadable as group:
        sentence = str(first_of(group))
    except* _AWAY as group:
        reason = bridge.reason_without_secrets(first_of(group))
        sentence = f"the ledger could not be read to the end ({reason}); try again"
    except* Exception as group:  # noqa: BLE001 - whoever waits for it must hear how it ended
        fault = type(first_of(group)).__name__
        sentence = f"{fault} while history was replayed; run citycard audit, then try again"
    return Failed(sentence)


def _tell(told: Told) -> None:
    sys.stdout.buffer.write(encode(told) + b"\n")
    sys.stdout.buffer.flush()


def _until_left(stopped: threading.Event) -> None:
    # Past the buffer of stdin, whose lock a thread that waits would hold when the process ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    stopped.set()


if __name__ == "__main__":
    sys.exit(main())

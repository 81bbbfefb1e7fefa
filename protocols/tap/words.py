"""What readers and the switch say to each other, as values; frame.py spells them."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from protocols.message import Mode

PROTOCOL_VERSION = 1
DEVICE_CHARACTERS = 8
CODE_CHARACTERS = 12
"""Lines, stops and vehicles are ASCII letters, digits and - of at most this many."""
MEDIUM_BYTES = 16
DIGEST_BYTES = 32


class FrameType(IntEnum):
    """Requests; the answer to each has the same number plus 0x80."""

    HELLO = 0x01
    TAP = 0x02
    BATCH_OPEN = 0x03
    BATCH_RECORDS = 0x04
    BATCH_CLOSE = 0x05
    BATCH_RESULTS = 0x06
    LIST_ASK = 0x08
    LIST_CHUNK = 0x09
    LIST_ACKNOWLEDGE = 0x0A
    CHIP_LOAD = 0x0C
    CHIP_LOAD_CONFIRM = 0x0D
    ECHO = 0x0F
    REFUSED = 0x7F
    """Only as an answer (0xFF): the frame could not be taken, and why."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """Who says it, under which key, and the number that ties an answer to its request.

    `device` is 1 to 8 ASCII letters and digits. `sequence` (32 bits) rises with each new
    message of a device; a repeat has the number of what it repeats.
    """

    device: str
    sequence: int
    key_version: int = 1


class TapKind(IntEnum):
    SINGLE = 1
    ON = 2
    OFF = 3
    INSPECT = 4


class Hello(msgspec.Struct, frozen=True, gc=False):
    """First on a connection: the concentrator, and the hotlist that its readers have."""

    acquirer: str
    list_version: int


class HelloAnswer(msgspec.Struct, frozen=True, gc=False):
    """`accepted`, the switch's instant (epoch milliseconds) and the newest hotlist."""

    accepted: bool
    at_ms: int
    list_version: int
    records_per_batch_max: int


class TapSaid(msgspec.Struct, frozen=True, gc=False):
    """One tap. `event_at_ms` is the device's instant; `nominal_minor` the fare that it knows.

    Codes are empty where there is none.
    """

    kind: TapKind
    medium: bytes
    event_at_ms: int
    mode: Mode
    line: str
    stop: str
    vehicle: str
    fare_version: int
    nominal_minor: int


class TapAnswer(msgspec.Struct, frozen=True, gc=False):
    """What the gate does. `response_code` is DE39's, "00" opens.

    `charged_minor` may be below zero (a late tap made its day cheaper); `available_minor` is
    what the paying purse has left, -1 where it is not told. `fare_class` is a number of the
    fare table and never says why.
    """

    response_code: str
    charged_minor: int = 0
    available_minor: int = -1
    fare_class: int = 0
    replayed: bool = False
    clock_ahead: bool = False
    fare_differs: bool = False
    list_version: int = 0


class OfflineRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a chip's purse (56 bytes on the wire).

    The 23 bytes of the chip's own log (domain §2.1): counter 2, overdraft 3, amount 4, type
    1 (06 purchase, 09 compound), terminal 6, BCD date and time 7; beside them the medium,
    the terminal's transaction number, the TAC with its key version, and the stop (8 ASCII).
    """

    medium: bytes
    counter: int
    overdraft_minor: int
    amount_minor: int
    type: int
    terminal: str
    local_at: str
    transaction_number: int
    tac: bytes
    tac_key_version: int
    stop: str


class BatchOpen(msgspec.Struct, frozen=True, gc=False):
    """A batch is told of before it comes: how many records, their sum, and the SHA-256 of all
    their bytes. `batch` is the device's own number; line and vehicle hold for all of it."""

    batch: int
    mode: Mode
    line: str
    vehicle: str
    count: int
    total_minor: int
    digest: bytes


class BatchRecords(msgspec.Struct, frozen=True, gc=False):
    """Records of an open batch, the first of them at this place (from 0)."""

    batch: int
    first: int
    records: tuple[OfflineRecord, ...]


class BatchClose(msgspec.Struct, frozen=True, gc=False):
    batch: int


class BatchTaken(msgspec.Struct, frozen=True, gc=False):
    """Answer to open, records and close: how many records are held, and what was at fault."""

    batch: int
    held: int
    problem: BatchProblem
    """Of a close: NONE means proven, and being posted; results are asked for with it."""


class BatchProblem(IntEnum):
    NONE = 0
    UNKNOWN_BATCH = 1
    TOO_MANY_OPEN = 2
    TOO_MANY_RECORDS = 3
    OUT_OF_PLACE = 4
    COUNT_DIFFERS = 5
    TOTAL_DIFFERS = 6
    DIGEST_DIFFERS = 7
    LEDGER_DOWN = 8
    BEING_POSTED = 9


class RecordStatus(IntEnum):
    WAITING = 0
    POSTED = 1
    DUPLICATE = 2
    SUSPENSE = 3
    REJECTED = 4


class BatchResults(msgspec.Struct, frozen=True, gc=False):
    """Asks for the acknowledgements of a batch from this record on."""

    batch: int
    first: int


class RecordResult(msgspec.Struct, frozen=True, gc=False):
    """What became of one record; `response_code` is DE39's."""

    status: RecordStatus
    response_code: str


class BatchResultsAnswer(msgspec.Struct, frozen=True, gc=False):
    """Acknowledgements record by record from `first` on; `done` once none is waiting.

    Sent in answer to BATCH_RESULTS, as soon as the whole page is there or a second went by.
    """

    batch: int
    first: int
    done: bool
    results: tuple[RecordResult, ...]


class ListAsk(msgspec.Struct, frozen=True, gc=False):
    """Which hotlist is there, for readers that have `have_version` (0: none)?"""

    have_version: int


class ListAnswer(msgspec.Struct, frozen=True, gc=False):
    """The newest hotlist: whole, and as the change from the version that was named.

    `change_bytes` is 0 where there is no such change to be had. The digest is the SHA-256 of
    the whole list's bytes: what the readers must have after either way.
    """

    version: int
    whole_bytes: int
    change_bytes: int
    digest: bytes


class ListChunk(msgspec.Struct, frozen=True, gc=False):
    """Asks for bytes of a version: whole (`from_version` 0) or the change from another."""

    version: int
    from_version: int
    offset: int
    length: int


class ListChunkAnswer(msgspec.Struct, frozen=True, gc=False):
    """The bytes, with their CRC-32; empty where there are none at this place."""

    version: int
    from_version: int
    offset: int
    octets: bytes
    crc32: int


class ListAcknowledge(msgspec.Struct, frozen=True, gc=False):
    """All readers behind this concentrator have the version, proven by its digest."""

    version: int
    digest: bytes


class ListAcknowledged(msgspec.Struct, frozen=True, gc=False):
    accepted: bool


class ChipLoad(msgspec.Struct, frozen=True, gc=False):
    """Money taken for a chip's purse: what the chip says of itself before it is loaded.

    `counter` is the number that its next record will have, as a chip tells it when it is
    asked (PBOC INITIALIZE): 0 of a chip that has made none.
    """

    medium: bytes
    amount_minor: int
    counter: int
    balance_minor: int
    event_at_ms: int


class ChipLoadConfirm(msgspec.Struct, frozen=True, gc=False):
    """The chip took the load (`written`), or did not.

    `load_sequence` and `event_at_ms` are the load's own, said again: they find it.
    """

    medium: bytes
    load_sequence: int
    amount_minor: int
    written: bool
    event_at_ms: int


class ChipLoadAnswer(msgspec.Struct, frozen=True, gc=False):
    """Answer to both. `missing_minor` is what the chip spent that has not come yet."""

    response_code: str
    missing_minor: int = 0


class Echo(msgspec.Struct, frozen=True, gc=False):
    """A sign of life, and its answer."""


class RefusedReason(IntEnum):
    FORMAT = 1
    MAC_WRONG = 2
    UNKNOWN_KEY = 3
    NOT_SIGNED_ON = 4
    NOT_PERMITTED = 5
    OVERLOADED = 6
    VERSION = 7
    LEAVING = 8


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A frame that was not taken: why, and the byte at which it was at fault."""

    reason: RefusedReason
    offset: int = 0


Said = (
    Hello
    | TapSaid
    | BatchOpen
    | BatchRecords
    | BatchClose
    | BatchResults
    | ListAsk
    | ListChunk
    | ListAcknowledge
    | ChipLoad
    | ChipLoadConfirm
    | Echo
)
Answered = (
    HelloAnswer
    | TapAnswer
    | BatchTaken
    | BatchResultsAnswer
    | ListAnswer
    | ListChunkAnswer
    | ListAcknowledged
    | ChipLoadAnswer
    | Echo
    | Refused
)

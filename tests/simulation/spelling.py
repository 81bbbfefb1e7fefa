"""How the acquirers of the simulation spell: frames out, answers in, all by the real codec."""

from __future__ import annotations

from typing import NamedTuple

from protocols.framing import Frame, Framer, Framing, frame
from protocols.iso8583 import Message, decode, encode, spec_named
from protocols.iso8583.link import LinkTerms
from protocols.message import Segment

TPDU = bytes.fromhex("6000060000")
HEADER = bytes.fromhex("603100311003")

LINKS = (
    LinkTerms(
        name="retail-1",
        dialect="unionpay_pos",
        framing=Framing(kind="binary2", tpdu=True, header_bytes=6),
        acquirer="48021000",
        segment=Segment.RETAIL,
        budget_ms=800,
        currencies=("156",),
        default_mcc="5411",
    ),
    LinkTerms(
        name="transit-1",
        dialect="iso87_ascii",
        framing=Framing(kind="ascii4", tpdu=False, header_bytes=0),
        acquirer="48022000",
        segment=Segment.TRANSIT,
        budget_ms=150,
        currencies=("156",),
        default_mcc="4131",
        partial_approval=True,
    ),
    LinkTerms(
        name="utility-1",
        dialect="iso87_ascii",
        framing=Framing(kind="binary2", tpdu=False, header_bytes=0),
        acquirer="48023000",
        segment=Segment.UTILITY,
        budget_ms=3_000,
        currencies=("156",),
        default_mcc="4900",
    ),
)
"""One acquirer of each segment; both dialects, three framings."""


class Key(NamedTuple):
    """What an answer is matched by: DE41, DE11 and the MTI's version and class."""

    terminal: str
    stan: str
    message_class: str


class Answer(NamedTuple):
    """What a host reads of an answer: DE39, DE4, DE37 and DE38."""

    code: str
    amount_minor: int
    rrn: str
    auth_code: str

    @property
    def approved(self) -> bool:
        return self.code in ("00", "10")


def key_of(message: Message) -> Key:
    return Key(message.text(41).rstrip(), message.text(11), message.mti[:2])


def answer_of(message: Message) -> Answer:
    return Answer(
        message.text(39),
        int(message.text(4) or 0),
        message.text(37).rstrip(),
        message.text(38).rstrip(),
    )


class Spelling:
    """One link's bytes, both ways."""

    def __init__(self, terms: LinkTerms) -> None:
        self.terms = terms
        self._spec = spec_named(terms.dialect)

    def framer(self) -> Framer:
        return Framer(self.terms.framing)

    def frame_of(self, message: Message) -> bytes:
        framing = self.terms.framing
        tpdu = TPDU if framing.tpdu else b""
        return frame(framing, encode(self._spec, message), tpdu, HEADER[: framing.header_bytes])

    def message_in(self, one: Frame) -> Message:
        return decode(self._spec, one.payload)

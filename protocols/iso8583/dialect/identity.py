"""What makes a message itself: its clock, its idempotency key and its payload hash.

The key of an original is made here too, from what a later message says of it, so that the
two are the same sixteen bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter

from protocols.iso8583.elements import digits
from protocols.iso8583.link import KeyPart, LinkTerms
from protocols.iso8583.message import Message

KEY_BYTES = 16
PAYLOAD_HASH_BYTES = 8

REVERSAL_CLASS = "04"

_KEY_PARTS: tuple[KeyPart, ...] = (
    "acquirer",
    "terminal",
    "stan",
    "local_at",
    "message_class",
    "merchant",
)


def local_at_of(terms: LinkTerms, message: Message) -> str:
    """MMDDhhmmss of the terminal's clock; empty where the message lacks what tells it.

    UnionPay POS terminals leave DE12 and DE13 to the host. Within one batch (DE60.2, six
    digits) they never use a STAN twice, so the batch number stands in for the time.
    """
    text = message.text
    hhmmss, mmdd = text(12), text(13)
    if hhmmss and mmdd:
        return mmdd + hhmmss
    if terms.dialect == "unionpay_pos" and not hhmmss and not mmdd:
        batch = text(60)[2:8]
        return batch if len(batch) == 6 and digits(batch) else ""
    return ""


def key_of(
    terms: LinkTerms, message_class: str, *, terminal: str, merchant: str, stan: str, local_at: str
) -> bytes:
    """The idempotency key: 4 bytes of MMDDhhmmss, then 12 bytes of hash.

    The terminal's clock in front keeps the keys of one hour together, so that the index over
    them grows at its right edge; wholly random keys cost the ledger 12 to 25 % of its
    throughput. The parts are those that the link agreed on for this class. A reversal may
    repeat every element of its original, so its class is always one of the parts.
    """
    match_key = terms.match_key
    if terms.match_key_by_class:
        match_key = _match_key(terms, message_class)
    # in the order of _KEY_PARTS
    said = (terms.acquirer, terminal, stan, local_at, message_class, merchant)
    parts = _picker(match_key, message_class == REVERSAL_CLASS)(said)
    # the unit separator cannot be in a part, so no two lists of parts look alike
    hashed = "\x1f".join(parts).encode("ascii", "replace")
    return int(local_at).to_bytes(4, "big") + blake2b(hashed, digest_size=KEY_BYTES - 4).digest()


@lru_cache(maxsize=256)
def _picker(
    match_key: tuple[KeyPart, ...], of_reversals: bool
) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Takes the parts of a key out of `_KEY_PARTS`; a link names two or more of them."""
    if of_reversals and "message_class" not in match_key:
        match_key = (*match_key, "message_class")
    return itemgetter(*(_KEY_PARTS.index(part) for part in match_key))


def _match_key(terms: LinkTerms, message_class: str) -> tuple[KeyPart, ...]:
    for named, parts in terms.match_key_by_class.items():
        if named == message_class:
            return parts
    return terms.match_key


def payload_hash_of(parts: tuple[str, ...], hash_key: bytes) -> bytes:
    """What makes a message another message under the same key.

    Transmission time (DE7) and entry mode (DE22) are left out: a repeat may differ in them.
    """
    hashed = "\x1f".join(parts).encode("ascii", "replace")
    return blake2b(hashed, digest_size=PAYLOAD_HASH_BYTES, key=hash_key).digest()

"""Fields to canonical words and back: what a message of a link asks, and what it is answered.

`read` is a ladder: the first rung that applies is the answer, in the precedence of
`Outcome`. Pure and without a clock; `read` and `write` are on the path of every message.
"""

from protocols.iso8583.dialect.answers import write, write_malformed
from protocols.iso8583.dialect.codes import is_request, response_mti, response_outcome
from protocols.iso8583.dialect.identity import KEY_BYTES, PAYLOAD_HASH_BYTES
from protocols.iso8583.dialect.management import NetworkAnswer, NetworkRequest, network_reply
from protocols.iso8583.dialect.reading import read
from protocols.iso8583.dialect.reconciliation import (
    ReconciliationRequest,
    reconciliation_reply,
)
from protocols.iso8583.dialect.transactions import is_plain_sale
from protocols.iso8583.network import NetworkFunction
from protocols.iso8583.totals import Totals

__all__ = [
    "KEY_BYTES",
    "PAYLOAD_HASH_BYTES",
    "NetworkAnswer",
    "NetworkFunction",
    "NetworkRequest",
    "ReconciliationRequest",
    "Totals",
    "is_plain_sale",
    "is_request",
    "network_reply",
    "read",
    "reconciliation_reply",
    "response_mti",
    "response_outcome",
    "write",
    "write_malformed",
]

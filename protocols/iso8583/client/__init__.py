"""What a terminal or a host says, for load generators, upstream links and tests.

Pure functions that make messages to send; whoever sends them decides about sockets, clocks
and chance. Nothing here knows the dialect's reader, so the two can be tested on each other.
"""

from protocols.iso8583.client.followups import (
    adjustment_message,
    cancel_message,
    completion_message,
    load_confirmation_message,
    refund_message,
    reversal_message,
    void_message,
)
from protocols.iso8583.client.forwarding import forward_message, forward_reversal
from protocols.iso8583.client.network import (
    echo_message,
    network_message,
    reconciliation_message,
)
from protocols.iso8583.client.sales import (
    Sale,
    inquiry_message,
    load_message,
    offline_sale_message,
    preauthorization_message,
    sale_message,
)
from protocols.iso8583.elements import Dialect

__all__ = [
    "Dialect",
    "Sale",
    "adjustment_message",
    "cancel_message",
    "completion_message",
    "echo_message",
    "forward_message",
    "forward_reversal",
    "inquiry_message",
    "load_confirmation_message",
    "load_message",
    "network_message",
    "offline_sale_message",
    "preauthorization_message",
    "reconciliation_message",
    "refund_message",
    "reversal_message",
    "sale_message",
    "void_message",
]

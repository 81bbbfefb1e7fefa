"""Network management functions and their codes, the same for who asks and who answers."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class NetworkFunction(StrEnum):
    """What a network management message is about (DE70, or DE60.3 of UnionPay POS)."""

    SIGN_ON = "sign_on"
    SIGN_OFF = "sign_off"
    KEY_EXCHANGE = "key_exchange"
    CUT_OVER = "cut_over"
    """A business day is over; DE15 is the one that begins."""
    ECHO = "echo"


NETWORK_CODES: Mapping[NetworkFunction, str] = MappingProxyType(
    {
        NetworkFunction.SIGN_ON: "001",
        NetworkFunction.SIGN_OFF: "002",
        NetworkFunction.KEY_EXCHANGE: "101",
        NetworkFunction.CUT_OVER: "201",
        NetworkFunction.ECHO: "301",
    }
)
"""The code that asks for each function."""

NETWORK_FUNCTIONS: Mapping[str, NetworkFunction] = MappingProxyType(
    {code: function for function, code in NETWORK_CODES.items()}
)

# 60.3 of a POS sign-on tells the length of the working keys: 001 single, 003 double, 004 with
# one for the track besides.
UNIONPAY_FUNCTIONS: Mapping[str, NetworkFunction] = MappingProxyType(
    dict(NETWORK_FUNCTIONS) | {"003": NetworkFunction.SIGN_ON, "004": NetworkFunction.SIGN_ON}
)

KEY_BLOCK_FIELD = MappingProxyType({"iso87_ascii": 48, "unionpay_pos": 62})
"""Where each dialect carries the key block of an exchange, as text."""

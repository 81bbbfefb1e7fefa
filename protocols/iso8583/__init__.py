"""ISO 8583: `decode(spec, octets) -> Message` and `encode(spec, message) -> bytes`.

`spec` is a format or the name of one in `SPECS`. Errors are in `protocols.errors`.
"""

from protocols.iso8583.codec import MESSAGE_BYTES_MAX, decode, encode
from protocols.iso8583.message import FieldValue, Message
from protocols.iso8583.spec import Field, FieldType, Spec
from protocols.iso8583.specs import SPECS, UnknownSpec, spec_named

__all__ = [
    "MESSAGE_BYTES_MAX",
    "SPECS",
    "Field",
    "FieldType",
    "FieldValue",
    "Message",
    "Spec",
    "UnknownSpec",
    "decode",
    "encode",
    "spec_named",
]

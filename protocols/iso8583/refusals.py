"""What the codec says of a field it cannot read or write: where and what to do, never the value."""

from __future__ import annotations

from protocols.errors import DecodeError, EncodeError
from protocols.iso8583.characters import ALLOWED, Accepts, first_wrong, is_track_nibbles
from protocols.iso8583.lengths import content_bytes, counted, prefix_bytes
from protocols.iso8583.message import FieldValue
from protocols.iso8583.spec import Coding, Field, FieldType, Padding


def wrong_prefix(field: Field, message: bytes, offset: int) -> DecodeError:
    prefix = message[offset : offset + prefix_bytes(field)]
    if len(prefix) < prefix_bytes(field):
        reason = "the message ends inside the length of the field; send the whole field"
    elif not (prefix if field.length_coding is Coding.ASCII else prefix.hex().encode()).isdigit():
        reason = "the length of the field is not decimal; send it in decimal digits"
    else:
        reason = (
            f"the length of the field is over its maximum of {counted(field, field.length_max)}; "
            "send no more than that"
        )
    return DecodeError(reason, field_path=field.path, offset=offset)


def wrong_content(
    field: Field, message: bytes, offset: int, length: int, view: str, accepts: Accepts
) -> DecodeError:
    """What is wrong with the content at `offset`; `view` is its characters."""
    wanted = content_bytes(field, length)
    if len(message) - offset < wanted:
        reason = (
            f"the message ends inside the field, which needs {wanted} bytes from here; "
            "send the whole field or correct its length"
        )
        return DecodeError(reason, field_path=field.path, offset=offset)
    index = first_wrong(view, accepts)
    return DecodeError(
        f"the field is of type {field.type} and takes only {ALLOWED[field.type]}; send it so",
        field_path=field.path,
        offset=offset + (index // 2 if field.coding is Coding.BCD else index),
    )


def wrong_packed(
    field: Field, message: bytes, offset: int, length: int, digits: str
) -> DecodeError:
    accepts = is_track_nibbles if field.type is FieldType.Z else str.isdecimal
    nibbles = digits[offset * 2 : (offset + content_bytes(field, length)) * 2]
    return wrong_content(field, message, offset, length, nibbles, accepts)


def wrong_pad(field: Field, offset: int, length: int) -> DecodeError:
    last = offset + content_bytes(field, length) - 1
    return DecodeError(
        "the padding nibble of the odd field is not zero; pad it with 0",
        field_path=field.path,
        offset=last if field.padding is Padding.RIGHT else offset,
    )


def wrong_value(field: Field, value: FieldValue, accepts: Accepts | None) -> EncodeError:
    """Why a value cannot be written; never what it is."""
    wanted = "bytes" if field.type is FieldType.B else "text"
    offset = 0
    if isinstance(value, bytes) is not (field.type is FieldType.B):
        reason = f"the field of type {field.type} is written from {wanted}; give it {wanted}"
    elif field.fixed and len(value) != field.length_max:
        reason = f"the field has exactly {field.length_max} characters; pad or cut the value"
    elif not field.fixed and len(value) > field.length_max:
        reason = f"the field has at most {field.length_max} characters; cut the value"
    else:
        reason = f"the field takes only {ALLOWED[field.type]}; give it those"
        if isinstance(value, str) and accepts is not None:
            offset = first_wrong(value, accepts)
    return EncodeError(reason, field_path=field.path, offset=offset)

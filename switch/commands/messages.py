"""`decode` and `encode`: one message between hex and JSON, for whoever debugs a link.

The JSON of ISO 8583 is `{"mti": "0200", "fields": {"2": "…"}}`, numbers as they stand in the
message and bytes (b fields) in hex; that of a reader's frame (`--spec tap`) names its type,
device, sequence and body. What one command prints, the other reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from protocols.card_number import mask_digit_runs
from protocols.framing import Framer
from protocols.iso8583 import FieldType, FieldValue, Message, Spec, UnknownSpec, decode, encode
from protocols.iso8583 import spec_named as named
from protocols.iso8583.network import KEY_BLOCK_FIELD
from protocols.tap.frame import TapFramer
from protocols.tap.shown import ShownFrame, shown, unshown
from switch import config as configuration
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import Where
from switch.commands.output import INPUT_BYTES_MAX, given_or_stdin, write, write_json

SECRET_FIELDS = frozenset({2, 34, 35, 36, 45, 52, 53, 55, 96})
"""PAN, tracks, PIN, chip data and keys: with --mask only their length is shown."""
KEY_BLOCK_FIELDS = frozenset(KEY_BLOCK_FIELD.values())
"""Where a network message (class 08) carries working keys."""

TAP = "tap"
SpecName = Annotated[
    str,
    Parameter(
        help="iso87_ascii, iso87_binary, iso93_ascii, iso93_binary, unionpay_pos (default), "
        "or tap for a reader's frame."
    ),
]


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message as JSON: data element number to text, or to hex where the field is bytes."""

    mti: str
    fields: dict[int, str]


def decode_message(
    hex: Annotated[
        str,
        Parameter(help="The message in hex; - reads it from stdin."),
    ],
    /,
    *,
    spec: SpecName = "unionpay_pos",
    frame: Annotated[
        bool,
        Parameter(help="The hex is a whole frame of a link: length, TPDU and header come first."),
    ] = False,
    link: Annotated[
        str | None, Parameter(help="Whose framing; the first configured link if not given.")
    ] = None,
    mask: Annotated[
        bool, Parameter(help="Hide card numbers, tracks, PIN, keys and chip data.")
    ] = False,
    config: Annotated[Path | None, Parameter(help="Configuration file, for --frame.")] = None,
) -> int:
    """Print a message as JSON. The output has full card numbers unless --mask is given."""
    if spec == TAP:
        write_json(shown(_tap_payload(_octets(given_or_stdin(hex)), frame), mask=mask))
        return Exit.OK
    wanted = _spec(spec)
    octets = _octets(given_or_stdin(hex))
    if frame:
        octets = _payload(octets, link, config)
    message = decode(wanted, octets)
    fields = {
        number: _masked(message.mti, number, value) if mask else _text(value)
        for number, value in sorted(message.fields.items())
    }
    write_json(Shown(message.mti, fields))
    return Exit.OK


def encode_message(
    json: Annotated[
        str,
        Parameter(help="The message as JSON; - reads it from stdin."),
    ],
    /,
    *,
    spec: SpecName = "unionpay_pos",
) -> int:
    """Print the hex of a message that is given as JSON in the form that decode prints."""
    text = given_or_stdin(json)
    if len(text) > INPUT_BYTES_MAX:
        raise CommandFailed(f"the JSON is over {INPUT_BYTES_MAX} characters; give one message")
    if spec == TAP:
        write(unshown(_shown_frame(text)).hex())
        return Exit.OK
    wanted = _spec(spec)
    try:
        shown = msgspec.json.decode(text, type=Shown)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise CommandFailed(
            'the message is not of the form {"mti": "0200", "fields": {"3": "000000"}}; '
            "write it as decode prints it"
        ) from None
    fields = {number: _value(wanted, number, text) for number, text in shown.fields.items()}
    write(encode(wanted, Message(shown.mti, fields)).hex())
    return Exit.OK


def _spec(name: str) -> Spec:
    try:
        return named(name)
    except UnknownSpec as error:
        raise CommandFailed(str(error)) from None


def _octets(text: str) -> bytes:
    if len(text) > INPUT_BYTES_MAX:
        raise CommandFailed(f"the hex is over {INPUT_BYTES_MAX} characters; give one message")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise CommandFailed(
            "the message is not hex; write two hexadecimal characters for each byte"
        ) from None


def _shown_frame(text: str) -> ShownFrame:
    try:
        return msgspec.json.decode(text, type=ShownFrame)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise CommandFailed(
            'the frame is not of the form {"type": "echo", "device": "D1", "sequence": 1, '
            '"body": {}}; write it as decode prints it'
        ) from None


def _tap_payload(octets: bytes, framed: bool) -> bytes:
    if not framed:
        return octets
    payloads = TapFramer().feed(octets)
    if len(payloads) != 1:
        raise CommandFailed(f"the hex is {len(payloads)} whole frames; give exactly one")
    return payloads[0]


def _payload(octets: bytes, link_name: str | None, file: Path | None) -> bytes:
    config = Where(config=file).load()
    links = [each for each in config.links if link_name in (None, each.name)]
    if not links:
        raise CommandFailed("no link of that name is configured; name one of the [[links]]")
    frames = Framer(configuration.link_terms(links[0], config).framing).feed(octets)
    if len(frames) != 1:
        raise CommandFailed(f"the hex is {len(frames)} whole frames; give exactly one")
    return frames[0].payload


def _text(value: FieldValue) -> str:
    return value if isinstance(value, str) else value.hex()


def _masked(mti: str, number: int, value: FieldValue) -> str:
    if number in SECRET_FIELDS or (mti[:2] == "08" and number in KEY_BLOCK_FIELDS):
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"[{len(value)} {unit} masked]"
    return mask_digit_runs(_text(value))


def _value(spec: Spec, number: int, text: str) -> FieldValue:
    field = spec.fields.get(number)
    if field is None or field.type is not FieldType.B:
        return text
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise CommandFailed(
            f"DE{number} is not hex; write two hexadecimal characters for each byte", Exit.FINDINGS
        ) from None

"""How fast the codec is next to pyiso8583, on the same messages in the same run.

The two are timed in interleaved rounds, in processor time of this process, so that what
else the machine does weighs on both alike; the figures are medians of the rounds. Both are
also checked to agree on every byte before the clock runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from protocols.card_number import numbered_card
from protocols.iso8583 import SPECS, FieldType, Message, Spec, decode, encode
from protocols.iso8583.client import Dialect, Sale, sale_message
from protocols.iso8583.spec import Coding, Field, Padding

SPEC_NAMES: tuple[Dialect, ...] = ("unionpay_pos", "iso87_ascii")
CALLS_PER_ROUND = 200


class CodecFigure(msgspec.Struct, frozen=True):
    """One direction of one format: microseconds per message, and theirs divided by ours."""

    spec: str
    direction: str
    ours_us: float
    theirs_us: float
    ratio: float


class Case(NamedTuple):
    """The same work by both codecs."""

    spec: str
    direction: str
    ours: Callable[[], object]
    theirs: Callable[[], object]


def realistic_message(dialect: Dialect) -> Message:
    """The 19-field sale that is measured."""
    return sale_message(
        dialect,
        Sale(
            card=numbered_card("620000", 12_345),
            amount_minor=1_840,
            stan=417,
            terminal="T0000042",
            merchant="M00000000000042",
            local_at=datetime(2026, 11, 22, 18, 5, 9),
            mcc="5411",
            acquirer="48021000",
        ),
    )


def theirs_of(spec: Spec) -> dict[str, dict[str, object]]:
    """The same format as pyiso8583 describes one."""
    described: dict[str, dict[str, object]] = {
        "h": _described("ascii", 0, 0),
        "t": _described(_theirs(spec.mti_coding), 0, 2 if spec.mti_coding is Coding.BCD else 4),
    }
    text_bitmap = spec.bitmap_coding is Coding.HEX
    for key in ("p", "1"):
        described[key] = _described("ascii" if text_bitmap else "b", 0, 16 if text_bitmap else 8)
    for number, field in spec.fields.items():
        described[str(number)] = _field(field)
    return described


def as_theirs(spec: Spec, message: Message) -> dict[str, str]:
    """The same message as pyiso8583 holds one: every value is text, bytes are hexadecimal."""
    document = {"t": message.mti}
    for number, value in message.fields.items():
        field = spec.fields[number]
        if isinstance(value, bytes):
            value = value.hex().upper()
        elif field.type is FieldType.XN and field.coding is Coding.BCD:
            # they have no sign before BCD; its byte is two hexadecimal characters to them
            value = value[:1].encode().hex().upper() + value[1:]
        document[str(number)] = value
    return document


def measure(seconds: float) -> list[CodecFigure]:
    """Figures for each format and direction, in about this many seconds."""
    iso8583 = _pyiso8583()
    cases: list[Case] = []
    for name in SPEC_NAMES:
        spec, theirs = SPECS[name], theirs_of(SPECS[name])
        message = realistic_message(name)
        document, octets = as_theirs(spec, message), encode(name, message)
        _must_agree(iso8583, spec, theirs, message, octets)
        reading = _bound(decode, name, octets), _bound(iso8583.decode, octets, theirs)
        writing = _bound(encode, name, message), _bound(iso8583.encode, document, theirs)
        cases += [Case(name, "decode", *reading), Case(name, "encode", *writing)]
    return [_figure(case, seconds / len(cases)) for case in cases]


def _figure(case: Case, seconds: float) -> CodecFigure:
    ours_us: list[float] = []
    theirs_us: list[float] = []
    stop_at = time.perf_counter() + seconds
    while not ours_us or time.perf_counter() < stop_at:
        ours_us.append(_round_us(case.ours))
        theirs_us.append(_round_us(case.theirs))
    mine, other = statistics.median(ours_us), statistics.median(theirs_us)
    return CodecFigure(
        spec=case.spec,
        direction=case.direction,
        ours_us=round(mine, 2),
        theirs_us=round(other, 2),
        ratio=round(other / mine, 2),
    )


def _round_us(call: Callable[[], object]) -> float:
    started = time.process_time_ns()
    for _ in range(CALLS_PER_ROUND):
        call()
    return (time.process_time_ns() - started) / CALLS_PER_ROUND / 1_000


def _bound(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)


def _must_agree(
    iso8583: Any, spec: Spec, theirs: Mapping[str, object], message: Message, octets: bytes
) -> None:
    written, _ = iso8583.encode(as_theirs(spec, message), theirs)
    read, _ = iso8583.decode(octets, theirs)
    expected = as_theirs(spec, message)
    if bytes(written) != octets or any(read[key] != expected[key] for key in expected):
        raise AssertionError(f"the two codecs disagree on {spec.name}; run the codec tests")


def _described(
    coding: str, prefix_bytes: int, length_max: int, **more: object
) -> dict[str, object]:
    return {
        "data_enc": coding,
        "len_enc": "ascii",
        "len_type": prefix_bytes,
        "max_len": length_max,
        "desc": "",
        **more,
    }


def _theirs(coding: Coding) -> str:
    return "b" if coding in (Coding.BCD, Coding.BINARY) else "ascii"


def _field(field: Field) -> dict[str, object]:
    bcd_length = field.length_coding is Coding.BCD
    prefix_bytes = (field.length_digits + 1) // 2 if bcd_length else field.length_digits
    length_max = field.length_max
    more: dict[str, object] = {}
    if field.coding is Coding.HEX:
        length_max *= 2
    if field.coding is Coding.BCD:
        pad = "left_pad" if field.padding is Padding.LEFT else "right_pad"
        more = {"len_count": "nibbles", pad: "0"}
        length_max += 1 if field.type is FieldType.XN else 0
    described = _described(_theirs(field.coding), prefix_bytes, length_max, **more)
    return described | {"len_enc": "bcd" if bcd_length else "ascii"}


def _pyiso8583() -> Any:
    try:
        import iso8583
    except ImportError:
        raise SystemExit(
            "pyiso8583 is not installed; install the development dependencies (`make test` does)"
        ) from None
    return iso8583


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.codec_bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to measure in all")
    figures = measure(parser.parse_args(arguments).seconds)
    print(f"{'format':<14}{'direction':<11}{'ours µs':>9}{'pyiso8583 µs':>14}{'times':>8}")
    for figure in figures:
        print(
            f"{figure.spec:<14}{figure.direction:<11}{figure.ours_us:>9.2f}"
            f"{figure.theirs_us:>14.2f}{figure.ratio:>8.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The named formats: the 1987 and 1993 field tables, in ASCII and binary, and UnionPay POS.

The tables say what the standard says; the functions below them say how a format writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from protocols.iso8583.spec import (
    Coding,
    Field,
    FieldType,
    Padding,
    Spec,
    field_from_notation,
    field_table,
)

Table = tuple[tuple[int, str, str], ...]

# ISO 8583:1987, table of data elements. Where practice is wider than the print (track 1 and
# the additional data fields carry special characters), the type is ans.
ISO87: Table = (
    (2, "n..19", "Primary account number (PAN)"),
    (3, "n 6", "Processing code"),
    (4, "n 12", "Amount, transaction"),
    (5, "n 12", "Amount, settlement"),
    (6, "n 12", "Amount, cardholder billing"),
    (7, "n 10", "Transmission date and time"),
    (8, "n 8", "Amount, cardholder billing fee"),
    (9, "n 8", "Conversion rate, settlement"),
    (10, "n 8", "Conversion rate, cardholder billing"),
    (11, "n 6", "System trace audit number (STAN)"),
    (12, "n 6", "Time, local transaction"),
    (13, "n 4", "Date, local transaction"),
    (14, "n 4", "Date, expiration"),
    (15, "n 4", "Date, settlement"),
    (16, "n 4", "Date, conversion"),
    (17, "n 4", "Date, capture"),
    (18, "n 4", "Merchant type (MCC)"),
    (19, "n 3", "Country code, acquiring institution"),
    (20, "n 3", "Country code, PAN extended"),
    (21, "n 3", "Country code, forwarding institution"),
    (22, "n 3", "Point of service entry mode"),
    (23, "n 3", "Card sequence number"),
    (24, "n 3", "Network international identifier (NII)"),
    (25, "n 2", "Point of service condition code"),
    (26, "n 2", "Point of service PIN capture code"),
    (27, "n 1", "Authorization identification response length"),
    (28, "x+n 8", "Amount, transaction fee"),
    (29, "x+n 8", "Amount, settlement fee"),
    (30, "x+n 8", "Amount, transaction processing fee"),
    (31, "x+n 8", "Amount, settlement processing fee"),
    (32, "n..11", "Acquiring institution identification code"),
    (33, "n..11", "Forwarding institution identification code"),
    (34, "ans..28", "Primary account number, extended"),
    (35, "z..37", "Track 2 data"),
    (36, "z...104", "Track 3 data"),
    (37, "an 12", "Retrieval reference number (RRN)"),
    (38, "an 6", "Authorization identification response"),
    (39, "an 2", "Response code"),
    (40, "an 3", "Service restriction code"),
    (41, "ans 8", "Card acceptor terminal identification"),
    (42, "ans 15", "Card acceptor identification code"),
    (43, "ans 40", "Card acceptor name and location"),
    (44, "ans..25", "Additional response data"),
    (45, "ans..76", "Track 1 data"),
    (46, "ans...999", "Additional data, ISO"),
    (47, "ans...999", "Additional data, national"),
    (48, "ans...999", "Additional data, private"),
    (49, "an 3", "Currency code, transaction"),
    (50, "an 3", "Currency code, settlement"),
    (51, "an 3", "Currency code, cardholder billing"),
    (52, "b 8", "Personal identification number (PIN) data"),
    (53, "n 16", "Security related control information"),
    (54, "ans...120", "Additional amounts"),
    (55, "b...255", "Chip data (EMV)"),
    (56, "ans...999", "Reserved, ISO"),
    (57, "ans...999", "Reserved, national"),
    (58, "ans...999", "Reserved, national"),
    (59, "ans...999", "Reserved, national"),
    (60, "ans...999", "Reserved, private"),
    (61, "ans...999", "Reserved, private"),
    (62, "ans...999", "Reserved, private"),
    (63, "ans...999", "Reserved, private"),
    (64, "b 8", "Message authentication code (MAC)"),
    (66, "n 1", "Settlement code"),
    (67, "n 2", "Extended payment code"),
    (68, "n 3", "Country code, receiving institution"),
    (69, "n 3", "Country code, settlement institution"),
    (70, "n 3", "Network management information code"),
    (71, "n 4", "Message number"),
    (72, "n 4", "Message number, last"),
    (73, "n 6", "Date, action"),
    (74, "n 10", "Credits, number"),
    (75, "n 10", "Credits, reversal number"),
    (76, "n 10", "Debits, number"),
    (77, "n 10", "Debits, reversal number"),
    (78, "n 10", "Transfer, number"),
    (79, "n 10", "Transfer, reversal number"),
    (80, "n 10", "Inquiries, number"),
    (81, "n 10", "Authorizations, number"),
    (82, "n 12", "Credits, processing fee amount"),
    (83, "n 12", "Credits, transaction fee amount"),
    (84, "n 12", "Debits, processing fee amount"),
    (85, "n 12", "Debits, transaction fee amount"),
    (86, "n 16", "Credits, amount"),
    (87, "n 16", "Credits, reversal amount"),
    (88, "n 16", "Debits, amount"),
    (89, "n 16", "Debits, reversal amount"),
    (90, "n 42", "Original data elements"),
    (91, "an 1", "File update code"),
    (92, "an 2", "File security code"),
    (93, "an 5", "Response indicator"),
    (94, "an 7", "Service indicator"),
    (95, "an 42", "Replacement amounts"),
    (96, "b 8", "Message security code"),
    (97, "x+n 16", "Amount, net settlement"),
    (98, "ans 25", "Payee"),
    (99, "n..11", "Settlement institution identification code"),
    (100, "n..11", "Receiving institution identification code"),
    (101, "ans..17", "File name"),
    (102, "ans..28", "Account identification 1"),
    (103, "ans..28", "Account identification 2"),
    (104, "ans...100", "Transaction description"),
    *((number, "ans...999", "Reserved, ISO") for number in range(105, 112)),
    *((number, "ans...999", "Reserved, national") for number in range(112, 120)),
    *((number, "ans...999", "Reserved, private") for number in range(120, 128)),
    (128, "b 8", "Message authentication code (MAC)"),
)

# ISO 8583:1993: what it changed against 1987; all other elements read as above.
ISO93_CHANGES: Table = (
    (5, "n 12", "Amount, reconciliation"),
    (9, "n 8", "Conversion rate, reconciliation"),
    (12, "n 12", "Date and time, local transaction"),
    (13, "n 4", "Date, effective"),
    (15, "n 6", "Date, settlement"),
    (22, "an 12", "Point of service data code"),
    (24, "n 3", "Function code"),
    (25, "n 4", "Message reason code"),
    (26, "n 4", "Card acceptor business code (MCC)"),
    (27, "n 1", "Approval code length"),
    (28, "n 6", "Date, reconciliation"),
    (29, "n 3", "Reconciliation indicator"),
    (30, "n 24", "Amounts, original"),
    (31, "ans..99", "Acquirer reference data"),
    (38, "an 6", "Approval code"),
    (39, "n 3", "Action code"),
    (40, "n 3", "Service code"),
    (43, "ans..99", "Card acceptor name and location"),
    (44, "ans..99", "Additional response data"),
    (46, "ans...204", "Amounts, fees"),
    (50, "an 3", "Currency code, reconciliation"),
    (53, "b..48", "Security related control information"),
    (54, "ans...120", "Amounts, additional"),
    (56, "n..35", "Original data elements"),
    (57, "n 3", "Authorization life cycle code"),
    (58, "n..11", "Authorizing agent institution identification code"),
    (59, "ans...999", "Transport data"),
    (60, "ans...999", "Reserved, national"),
    (61, "ans...999", "Reserved, national"),
    (66, "ans...204", "Amounts, original fees"),
    (67, "n 2", "Extended payment data"),
    (70, "n 3", "Country code, authorizing agent institution"),
    (71, "n 8", "Message number"),
    (72, "ans...999", "Data record"),
    (82, "n 10", "Inquiries, reversal number"),
    (83, "n 10", "Payments, number"),
    (84, "n 10", "Payments, reversal number"),
    (85, "n 10", "Fee collections, number"),
    (90, "n 10", "Authorizations, reversal number"),
    (91, "n 3", "Country code, transaction destination institution"),
    (92, "n 3", "Country code, transaction originator institution"),
    (93, "n..11", "Transaction destination institution identification code"),
    (94, "n..11", "Transaction originator institution identification code"),
    (95, "ans..99", "Card issuer reference data"),
    (96, "b...999", "Key management data"),
    (97, "x+n 16", "Amount, net reconciliation"),
    (99, "an..11", "Settlement institution identification code"),
    (105, "n 16", "Credits, chargeback amount"),
    (106, "n 16", "Debits, chargeback amount"),
    (107, "n 10", "Credits, chargeback number"),
    (108, "n 10", "Debits, chargeback number"),
    (109, "ans..84", "Credits, fee amounts"),
    (110, "ans..84", "Debits, fee amounts"),
    (112, "ans...999", "Reserved, ISO"),
    (113, "ans...999", "Reserved, ISO"),
    (114, "ans...999", "Reserved, ISO"),
    (115, "ans...999", "Reserved, ISO"),
    (120, "ans...999", "Reserved, national"),
    (121, "ans...999", "Reserved, national"),
    (122, "ans...999", "Reserved, national"),
)

# UnionPay POS (银联 POS 终端规范, ISO 8583:1987 with a 64-bit bitmap): the elements in use.
# DE7, DE18 and DE43 are not sent by a plain terminal, but by a host that speaks for many.
UNIONPAY_POS: Table = (
    *(row for row in ISO87 if row[0] in {2, 3, 4, 7, 11, 12, 13, 14, 15, 18, 22, 23, 25, 26}),
    *(row for row in ISO87 if row[0] in {32, 33, 35, 36, 37, 38, 39, 41, 42, 43, 44, 49, 52, 53}),
    (48, "n...322", "Additional data, private"),
    (54, "ans...120", "Balance amount"),
    (55, "b...255", "Chip data (EMV/PBOC)"),
    (56, "ans...999", "Reserved"),
    (57, "ans...999", "Reserved"),
    (58, "ans...999", "Reserved"),
    (59, "ans...999", "Reserved"),
    (60, "n...17", "Type code 60.1, batch number 60.2, network management code 60.3"),
    (61, "n...29", "Original batch, STAN and date"),
    (62, "ans...999", "Reserved, private"),
    (63, "ans...999", "Reserved, private"),
    (64, "b 8", "Message authentication code (MAC)"),
)

_TEXT = dict.fromkeys(FieldType, Coding.ASCII) | {FieldType.B: Coding.HEX}
_PACKED = _TEXT | {
    FieldType.N: Coding.BCD,
    FieldType.Z: Coding.BCD,
    FieldType.XN: Coding.BCD,
    FieldType.B: Coding.BINARY,
}


def _ascii_spec(name: str, source: str, table: Table) -> Spec:
    """All text: ASCII lengths, and bitmap and b fields in hexadecimal characters."""
    fields = field_table(
        field_from_notation(*row, coding_of=_TEXT, length_coding=Coding.ASCII) for row in table
    )
    return Spec(name, source, Coding.ASCII, Coding.HEX, True, MappingProxyType(fields))


def _binary_spec(name: str, source: str, table: Table) -> Spec:
    """Packed: BCD digits and lengths; n is right-aligned, so an odd field starts with a zero."""
    fields = field_table(
        field_from_notation(*row, coding_of=_PACKED, length_coding=Coding.BCD) for row in table
    )
    return Spec(name, source, Coding.BCD, Coding.BINARY, True, MappingProxyType(fields))


def _unionpay_field(number: int, notation: str, name: str) -> Field:
    # 压缩时用左靠BCD码: variable fields and DE22 are left-aligned, so the zero stands right
    # (DE22 "021" is 02 10); the card sequence number DE23 is right-aligned (右靠, 00 01).
    left_aligned = "." in notation or number == 22
    return field_from_notation(
        number,
        notation,
        name,
        coding_of=_PACKED,
        length_coding=Coding.BCD,
        padding=Padding.RIGHT if left_aligned else Padding.LEFT,
    )


def _unionpay_spec() -> Spec:
    fields = field_table(_unionpay_field(*row) for row in UNIONPAY_POS)
    return Spec(
        "unionpay_pos",
        "UnionPay POS terminal specification, ISO 8583:1987 based",
        Coding.BCD,
        Coding.BINARY,
        False,
        MappingProxyType(fields),
    )


def _changed(table: Table, changes: Table) -> Table:
    rows = {row[0]: row for row in table} | {row[0]: row for row in changes}
    return tuple(rows[number] for number in sorted(rows))


ISO93 = _changed(ISO87, ISO93_CHANGES)

SPECS: Mapping[str, Spec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _ascii_spec("iso87_ascii", "ISO 8583:1987", ISO87),
            _binary_spec("iso87_binary", "ISO 8583:1987", ISO87),
            _ascii_spec("iso93_ascii", "ISO 8583:1993", ISO93),
            _binary_spec("iso93_binary", "ISO 8583:1993", ISO93),
            _unionpay_spec(),
        )
    }
)
"""Every format by name."""


class UnknownSpec(ValueError):
    """A format was asked for by a name that none has."""


def spec_named(name: str) -> Spec:
    """The format with this name. Raises UnknownSpec, which lists the names there are."""
    spec = SPECS.get(name)
    if spec is None:
        raise UnknownSpec(f"there is no message format of that name; use one of {', '.join(SPECS)}")
    return spec

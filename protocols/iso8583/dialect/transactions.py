"""Which transaction a message is: a table of what it says, and what each one needs.

Three things tell it: class and function (the first three digits of the MTI), the first two
digits of DE3, and whether DE25 is 06 (preauthorized). UnionPay POS says more in 60.1, which
decides where the three leave it open. The table is domain §4.1, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from protocols.iso8583.elements import PREAUTHORIZED, Dialect
from protocols.iso8583.message import Message
from protocols.message import LINKED_KINDS, Kind, Outcome, Refusal


class Transaction(msgspec.Struct, frozen=True):
    """One row: the kind, the fields that have to be there and not blank, and its amount.

    `linked` tells that it is about an earlier message and has to say which; `zero` that
    there is nothing wrong in an amount of 0, `amount` that there is one at all.
    """

    kind: Kind
    required: tuple[int, ...]
    linked: bool = False
    zero: bool = False
    amount: bool = True


_WITH_AMOUNT = (4, 11, 41, 42, 49)
_WITHOUT_AMOUNT = (11, 41, 42)


def _transaction(kind: Kind, *, linked: bool = False) -> Transaction:
    moves = kind is not Kind.INQUIRY
    return Transaction(
        kind,
        _WITH_AMOUNT if moves else _WITHOUT_AMOUNT,
        linked=linked or kind in LINKED_KINDS,
        zero=kind in (Kind.INQUIRY, Kind.COMPLETION, Kind.REVERSAL),
        amount=moves,
    )


_Row = tuple[str, str, bool]

_COMMON: Mapping[_Row, Transaction] = {
    ("010", "00", False): _transaction(Kind.PURCHASE),
    ("010", "00", True): _transaction(Kind.PREAUTHORIZATION),
    ("010", "03", True): _transaction(Kind.PREAUTHORIZATION),
    ("010", "20", True): _transaction(Kind.PREAUTHORIZATION_CANCEL),
    ("010", "31", False): _transaction(Kind.INQUIRY),
    ("012", "00", True): _transaction(Kind.COMPLETION),
    ("020", "00", False): _transaction(Kind.PURCHASE),
    ("020", "00", True): _transaction(Kind.COMPLETION),
    ("020", "20", True): _transaction(Kind.VOID),
    ("020", "21", False): _transaction(Kind.LOAD_PENDING),
    ("020", "31", False): _transaction(Kind.INQUIRY),
    ("022", "00", True): _transaction(Kind.COMPLETION),
    ("022", "20", False): _transaction(Kind.REFUND),
    ("022", "21", False): _transaction(Kind.LOAD, linked=True),
}

_TABLES: Mapping[Dialect, Mapping[_Row, Transaction]] = {
    "iso87_ascii": {
        **_COMMON,
        ("020", "20", False): _transaction(Kind.VOID),
        ("022", "00", False): _transaction(Kind.OFFLINE_SALE),
        ("022", "02", False): _transaction(Kind.ADJUSTMENT),
    },
    "unionpay_pos": _COMMON,
}

# UnionPay POS: the rows that 60.1 decides, "" where it says none of the others. An
# adjustment, of a tip too, tells the new total.
_BY_TYPE_CODE: Mapping[_Row, Mapping[str, Transaction]] = {
    ("020", "20", False): {
        "": _transaction(Kind.VOID),
        "25": _transaction(Kind.REFUND),
    },
    ("022", "00", False): {
        "30": _transaction(Kind.OFFLINE_SALE),
        "32": _transaction(Kind.ADJUSTMENT),
        "34": _transaction(Kind.ADJUSTMENT),
    },
}

_SALE_MTIS = frozenset({"0100", "0101", "0200", "0201"})
_REVERSAL = _transaction(Kind.REVERSAL)
_FINANCIAL = frozenset({"010", "012", "020", "022"})
_REVERSALS = frozenset({"040", "042"})


def transaction_of(dialect: Dialect, mti: str, message: Message) -> Transaction | Refusal:
    """The row that this message is under a message type: its own, or that of its original."""
    row = (mti[:3], message.text(3)[:2], message.fields.get(25) == PREAUTHORIZED)
    transaction = _TABLES[dialect].get(row)
    if transaction is not None:
        return transaction
    if row[0] in _REVERSALS:
        return _REVERSAL
    if dialect == "unionpay_pos" and row in _BY_TYPE_CODE:
        by_type_code = _BY_TYPE_CODE[row]
        transaction = by_type_code.get(message.text(60)[:2]) or by_type_code.get("")
    return transaction if transaction is not None else _unsupported(dialect, row)


def is_plain_sale(message: Message) -> bool:
    """Whether it can only be a sale, which load may refuse without reading the rest."""
    text = message.text
    plain = message.mti in _SALE_MTIS and text(3)[:2] == "00"
    return plain and text(25) != PREAUTHORIZED


def is_linked(dialect: Dialect, message: Message) -> bool:
    """Whether a message is about an earlier one."""
    transaction = transaction_of(dialect, message.mti, message)
    return isinstance(transaction, Transaction) and transaction.linked


def _unsupported(dialect: Dialect, row: _Row) -> Refusal:
    function, processing, preauthorized = row
    table = _TABLES[dialect]
    if function not in _FINANCIAL:
        return Refusal(
            Outcome.UNSUPPORTED,
            "mti",
            "this message type is not taken; send 0100, 0120, 0200, 0220, 0400, 0420, 0500, "
            "0520, 0800 or 0820",
        )
    if not processing:
        return Refusal(
            Outcome.MALFORMED, "DE3", "this message needs the field, and not blank; send it"
        )
    if dialect == "unionpay_pos" and row in _BY_TYPE_CODE:
        return Refusal(
            Outcome.UNSUPPORTED, "DE60", "60.1 tells no transaction here; send 30, 32 or 34"
        )
    if (function, processing, not preauthorized) in table:
        remedy = "send another than 06" if preauthorized else "send 06, preauthorized"
        return Refusal(
            Outcome.UNSUPPORTED, "DE25", f"no transaction of this processing code has it; {remedy}"
        )
    taken = sorted({known for mti, known, _ in table if mti == function})
    return Refusal(
        Outcome.UNSUPPORTED,
        "DE3",
        f"this message type takes no such processing code; begin it with {' or '.join(taken)}",
    )

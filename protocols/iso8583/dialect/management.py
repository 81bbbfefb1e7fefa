"""Network management: what an 08xx message asks, and the answer to it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from protocols.iso8583.dialect.codes import response_mti
from protocols.iso8583.link import LinkTerms
from protocols.iso8583.message import FieldValue, Message
from protocols.iso8583.network import (
    KEY_BLOCK_FIELD,
    NETWORK_FUNCTIONS,
    UNIONPAY_FUNCTIONS,
    NetworkFunction,
)
from protocols.message import Outcome, Refusal, response_code

# UnionPay POS signs off with an 0820.
NETWORK_MTIS = frozenset({"0800", "0801", "0820", "0821"})
NETWORK_ANSWER_MTIS = frozenset({"0810", "0830"})

_ECHOED = (7, 11, 15, 32, 41, 42, 60, 70)
_APPROVED = response_code(Outcome.APPROVED)


class NetworkRequest(msgspec.Struct, frozen=True, gc=False):
    """A network management message: it moves no money and is answered by `network_reply`.

    `wants_keys`: the answer has to bring new working keys, where the link has any. It is
    set on every key exchange, and on a UnionPay POS sign-on.
    """

    function: NetworkFunction
    stan: str
    wants_keys: bool = False


class NetworkAnswer(msgspec.Struct, frozen=True, gc=False):
    """A peer's answer (0810, 0830) to a network message of ours, to be matched by `stan`.

    `function` is None where the answer does not say it.
    """

    function: NetworkFunction | None
    stan: str
    approved: bool


def read_network(terms: LinkTerms, message: Message) -> NetworkRequest | Refusal:
    """What a network management message asks; without a code it is an echo."""
    stan = message.text(11)
    unionpay = terms.dialect == "unionpay_pos"
    code = _code(terms, message)
    if not code:
        return NetworkRequest(NetworkFunction.ECHO, stan)
    function = (UNIONPAY_FUNCTIONS if unionpay else NETWORK_FUNCTIONS).get(code)
    if function is None:
        return Refusal(
            Outcome.UNSUPPORTED,
            "DE60" if unionpay else "DE70",
            "there is no such function; send sign-on 001, sign-off 002, key exchange 101, "
            "cut-over 201 or echo 301",
        )
    wants_keys = function is NetworkFunction.KEY_EXCHANGE or (
        unionpay and function is NetworkFunction.SIGN_ON
    )
    return NetworkRequest(function, stan, wants_keys)


def read_network_answer(terms: LinkTerms, message: Message) -> NetworkAnswer:
    """What a peer says to a network message of ours."""
    table = UNIONPAY_FUNCTIONS if terms.dialect == "unionpay_pos" else NETWORK_FUNCTIONS
    function = table.get(_code(terms, message))
    return NetworkAnswer(function, message.text(11), message.text(39) == _APPROVED)


def network_reply(
    terms: LinkTerms,
    request_message: Message,
    now_local: datetime,
    outcome: Outcome = Outcome.APPROVED,
    key_block: str = "",
) -> Message:
    """The 0810 (or 0830) to a NetworkRequest, yes unless another outcome is given.

    A POS terminal sets its clock by DE12 and DE13 of the answer. `key_block` is the text of
    new working keys, up to 999 printable characters: DE48 in iso87_ascii, DE62 in UnionPay
    POS; it leaves with an approval only.
    """
    asked = request_message.fields
    fields: dict[int, FieldValue] = {number: asked[number] for number in _ECHOED if number in asked}
    if terms.dialect == "unionpay_pos" or 12 in asked:
        fields[12] = f"{now_local:%H%M%S}"
        fields[13] = f"{now_local:%m%d}"
    fields[39] = response_code(outcome)
    if key_block and outcome.approved:
        fields[KEY_BLOCK_FIELD[terms.dialect]] = key_block
    return Message(response_mti(request_message.mti), fields)


def _code(terms: LinkTerms, message: Message) -> str:
    # 60.1 type code n2, 60.2 batch number n6, 60.3 network management code n3
    return message.text(60)[8:11] if terms.dialect == "unionpay_pos" else message.text(70)

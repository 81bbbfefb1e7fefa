"""`card pin`: gives a card its PIN, or its tries back. The PIN is never on a command line."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from protocols.card_number import CardNumber
from protocols.pin_block import PinBlockError
from switch.clock import SystemClock
from switch.commands.exits import CommandFailed
from switch.commands.ledger import HERE, Ledger, Where, card_number_key, with_ledger
from switch.commands.output import STDIN, Json, write, write_json
from switch.commands.secret_input import secret_lines
from switch.config import Config
from switch.keystore.software import PIN_VERIFICATION_LABEL, open_store, store_path
from switch.ledger import card_pin, cards
from switch.ledger.cards import CARD_ID_DIGITS_MAX


def pin(
    reference: Annotated[
        str,
        Parameter(help="Card number; - reads it from stdin, a line before the PIN."),
    ],
    /,
    *,
    where: Where = HERE,
    reset_tries: Annotated[
        bool,
        Parameter(help="Ask for no PIN: only let the card try its own again (a card id does)."),
    ] = False,
    json: Json = False,
) -> int:
    """Give a card a PIN, read from stdin (twice at a terminal), and all its tries."""
    config = where.load()
    key = card_number_key(where, config)
    asked = reference in ("-", STDIN)
    prompts = ["card number"] if asked else []
    if not reset_tries:
        prompts += ["PIN", "PIN again"]
    lines = secret_lines(prompts) if prompts else []
    named = (lines[:1] or [""])[0] if asked else reference
    chosen = None if reset_tries else _reference(config, where, named, lines[1 if asked else 0 :])

    async def body(ledger: Ledger) -> tuple[int, bool]:
        found = await cards.find(ledger.connection, named, key)
        if chosen is None:
            has_pin = await card_pin.reset_pin_tries(ledger.connection, found.card_id)
            return found.card_id, has_pin
        await card_pin.set_pin_reference(ledger.connection, found.card_id, chosen)
        return found.card_id, True

    card_id, has_pin = with_ledger(where, config, body)
    if json:
        write_json({"card_id": card_id, "has_pin": has_pin, "pin_tries": 0})
    elif chosen is not None:
        write(f"card {card_id} has a new PIN")
    else:
        write(f"card {card_id} may try its PIN again" if has_pin else f"card {card_id} has no PIN")
    return 0


def _reference(config: Config, where: Where, named: str, typed: list[str]) -> bytes:
    """What the card is to keep of the PIN that was typed."""
    bare = named.replace(" ", "").replace("-", "")
    if len(bare) <= CARD_ID_DIGITS_MAX:
        raise CommandFailed("a PIN belongs to a card number; give the number instead of the id")
    try:
        card = CardNumber(bare)
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    if not typed or (sys.stdin.isatty() and len(typed) < 2) or len(set(typed)) > 1:
        raise CommandFailed("the PIN was not typed, or not the same twice; type it again")
    store = open_store(store_path(config.keys.store_file, where.directory), SystemClock())
    verification_key = store.find(PIN_VERIFICATION_LABEL) if store is not None else None
    if store is None or verification_key is None:
        raise CommandFailed("there is no key store; run citycard keys init")
    try:
        return store.reference_of_chosen_pin(verification_key, typed[0], card)
    except PinBlockError as error:
        raise CommandFailed(str(error)) from None

"""`review`: authorizations that rules put before a person, and that person's verdict."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from protocols.card_number import mask_digit_runs
from protocols.money import display_minor
from switch.commands.acting import TokenFile, acting, operator
from switch.commands.exits import CommandFailed, Exit
from switch.commands.instants import shown
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, write, write_json, write_table
from switch.ledger import reviews
from switch.ledger.list_acts import ActRejected
from switch.ledger.operators import ANALYST, APPROVER
from switch.ledger.reviews import QueueView, ReviewView, Verdict

AUTHORIZATION_ID_MAX = 2**63 - 1

app = App(name="review", help="See what rules want a person to look at.", help_format="plaintext")


@app.command(name="list")
def list_(
    queue: Annotated[str, Parameter(help="The queue; all of them if not given.")] = "",
    /,
    *,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """List what waits, oldest first, and how much waits in each queue."""
    config = where.load()

    async def body(ledger: Ledger) -> tuple[list[QueueView], list[ReviewView]]:
        waiting = await reviews.queues(ledger.connection)
        return waiting, await reviews.open_reviews(ledger.connection, queue)

    waiting, found = with_ledger(where, config, body)
    if json:
        write_json({"queues": waiting, "reviews": found})
        return Exit.OK
    rows = (
        (
            each.authorization_id,
            each.queue,
            shown(each.at_us, config.ledger.time_zone),
            f"{each.card_id} ••{each.last4}",
            each.kind,
            display_minor(each.amount_minor),
            each.outcome,
            each.rule_id,
        )
        for each in found
    )
    columns = ["authorization>", "queue", "decided", "card", "kind", "amount>", "outcome", "rule"]
    write_table("", columns, rows)
    for each in waiting:
        oldest = shown(each.oldest_us, config.ledger.time_zone)
        write(f"{each.queue}: {each.open_count} waiting, the oldest since {oldest}")
    return Exit.OK


@app.command
def close(
    authorization: Annotated[int, Parameter(help="The authorization's id, as listed.")],
    /,
    *,
    verdict: Annotated[Verdict, Parameter(help="What you found.")],
    note: Annotated[str, Parameter(help="What led you there.")] = "",
    queue: Annotated[str, Parameter(help="In this queue only; in all if not given.")] = "",
    token_file: TokenFile = None,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Give your verdict on an authorization; it stays as it is given."""
    token = acting(token_file)
    if not 0 < authorization <= AUTHORIZATION_ID_MAX:
        raise CommandFailed("that is no authorization's id; `citycard review list` shows them")

    async def body(ledger: Ledger) -> list[str]:
        closer = await operator(ledger, token, APPROVER, ANALYST)
        return await reviews.close(
            ledger.connection,
            authorization,
            verdict=verdict,
            note=note,
            closed_by=closer.name,
            queue=queue,
        )

    try:
        names = with_ledger(where, where.load(), body)
    except ActRejected as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from error
    if json:
        write_json({"authorization_id": authorization, "queues": names, "verdict": verdict})
    else:
        write(mask_digit_runs(f"{', '.join(names)}: {authorization} closed as {verdict}"))
    return Exit.OK

"""`debit`: debit files and mandates, for the staff who settle with billers.

Files go through the HTTP API, from wherever their sender is; mandates are kept in the ledger.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from protocols.card_number import mask_digit_runs
from protocols.money import display_minor
from switch.commands.card import minor_units
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, card_number_key, with_ledger
from switch.commands.output import Json, given_or_stdin, write, write_json, write_table
from switch.config import Config
from switch.ledger import cards
from switch.ledger.debits import DebitLedger, Mandate

PART_BYTES = 65_536
ANSWER_BYTES_MAX = 1_048_576
KEY_CHARACTERS_MAX = 512
TIMEOUT = httpx.Timeout(30, read=120)
_CUSTOMER = re.compile(r"[0-9A-Za-z-]{1,32}\Z")
_FILE_ID = re.compile(r"(?!.*[0-9]{13})[0-9A-Za-z][0-9A-Za-z._-]{0,63}\Z")

app = App(name="debit", help="Debit files and mandates.", help_format="plaintext")
mandate = App(name="mandate", help="Which card pays for a customer.", help_format="plaintext")
app.command(mandate)

BillerArgument = Annotated[str, Parameter(help="The biller's name in the configuration.")]
CustomerArgument = Annotated[str, Parameter(help="The customer's number at the biller.")]
FileId = Annotated[str, Parameter(help="What the file is called, such as 2026-11-water.")]
ApiOption = Annotated[str, Parameter(name="--api", help="Address of the API, http:// or https://.")]
KeyFile = Annotated[Path, Parameter(help="File that holds the API key, and nobody else reads.")]
BillerOption = Annotated[str, Parameter(name="--biller", help="Whose bills they are.")]


@mandate.command
def add(
    biller: BillerArgument,
    customer: CustomerArgument,
    card: Annotated[str, Parameter(help="Card id or number; - reads it from stdin.")],
    /,
    *,
    amount_max: Annotated[str, Parameter(help="The most of one bill, such as 500.00.")] = "",
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Let a biller collect a customer's bills from a card."""
    config = _with_biller(where, biller)
    _check_customer(customer)
    key = card_number_key(where, config)
    limit_minor = minor_units(amount_max) if amount_max else 0

    async def body(ledger: Ledger) -> Mandate:
        found = await cards.find(ledger.connection, given_or_stdin(card), key)
        given = await DebitLedger(ledger.connection).give_mandate(
            biller, customer, found.card_id, limit_minor
        )
        if given is None:
            raise CommandFailed(
                "a mandate of this customer stands; end it by debit mandate remove", Exit.FINDINGS
            )
        return given

    given = with_ledger(where, config, body)
    if json:
        write_json(given)
    else:
        write(f"mandate {given.mandate_id}: {biller} collects from card ••{given.last4}")
    return Exit.OK


@mandate.command
def remove(
    biller: BillerArgument,
    customer: CustomerArgument,
    /,
    *,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """End a mandate; rows that are taken from now on find none."""
    config = _with_biller(where, biller)
    _check_customer(customer)

    async def body(ledger: Ledger) -> Mandate | None:
        return await DebitLedger(ledger.connection).end_mandate(biller, customer)

    ended = with_ledger(where, config, body)
    if ended is None:
        raise CommandFailed("no mandate of this customer stands", Exit.FINDINGS)
    if json:
        write_json(ended)
    else:
        write(f"mandate {ended.mandate_id} has ended")
    return Exit.OK


@mandate.command(name="list")
def list_mandates(
    biller: BillerArgument,
    /,
    *,
    customer: Annotated[str, Parameter(help="Of one customer only.")] = "",
    ended: Annotated[bool, Parameter(help="Those that have ended too.")] = False,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Show a biller's mandates, the newest first, a thousand at most."""
    config = _with_biller(where, biller)

    async def body(ledger: Ledger) -> list[Mandate]:
        return await DebitLedger(ledger.connection).mandates(biller, customer, ended_too=ended)

    found = with_ledger(where, config, body)
    if json:
        write_json(found)
        return Exit.OK
    write_table(
        f"Mandates of {biller}",
        ("Id>", "Customer", "Card", "At most>", "Given", "Ended"),
        (
            (
                each.mandate_id,
                each.customer,
                f"••{each.last4}",
                display_minor(each.amount_max_minor) if each.amount_max_minor else "",
                f"{each.given_at:%Y-%m-%d}",
                f"{each.ended_at:%Y-%m-%d}" if each.ended_at else "",
            )
            for each in found
        ),
    )
    return Exit.OK


@app.command
def send(
    file: Annotated[Path, Parameter(help="The debit file.")],
    /,
    *,
    api: ApiOption,
    key_file: KeyFile,
    biller: BillerOption,
    file_id: Annotated[str, Parameter(name="--id", help="Its name; of the file if none.")] = "",
    json: Json = False,
) -> int:
    """Send a debit file. It is taken whole or not at all; sending it again changes nothing."""
    name = file_id or file.stem
    try:
        size = file.stat().st_size
        with file.open("rb") as opened, Bar("sent", size) as bar:

            def parts() -> Iterator[bytes]:
                while part := opened.read(PART_BYTES):
                    yield part
                    bar.advance(len(part))

            answer = _asked(api, key_file, "PUT", _path(name), biller, content=parts())
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read ({error.strerror}); mend that") from None
    _show(answer, json)
    return Exit.OK


@app.command
def status(
    name: FileId,
    /,
    *,
    api: ApiOption,
    key_file: KeyFile,
    biller: BillerOption,
    json: Json = False,
) -> int:
    """Show how far a debit file is."""
    _show(_asked(api, key_file, "GET", _path(name), biller), json)
    return Exit.OK


@app.command
def cancel(
    name: FileId,
    /,
    *,
    api: ApiOption,
    key_file: KeyFile,
    biller: BillerOption,
    json: Json = False,
) -> int:
    """Collect no more of a debit file; what was collected stays."""
    _show(_asked(api, key_file, "POST", f"{_path(name)}/cancel", biller), json)
    return Exit.OK


@app.command
def result(
    name: FileId,
    /,
    *,
    api: ApiOption,
    key_file: KeyFile,
    biller: BillerOption,
    output: Annotated[Path | None, Parameter(help="Where it is written; stdout if none.")] = None,
) -> int:
    """Fetch the result file: each row of the debit file with its code and what was collected."""
    last = b""
    path = f"{_path(name)}/result"
    try:
        opened = output.open("wb") if output is not None else sys.stdout.buffer
        with _client(api, key_file) as client:
            try:
                with client.stream("GET", path, params={"biller": biller}) as answer:
                    if answer.status_code != httpx.codes.OK:
                        raise _refused(answer.status_code, answer.read())
                    for part in answer.iter_bytes():
                        opened.write(part)
                        last = (last + part)[-80:]
            except httpx.HTTPError as error:
                raise _unreachable(error) from None
        opened.flush()
        if output is not None:
            opened.close()
    except OSError as error:
        raise CommandFailed(f"the result cannot be written ({error.strerror})") from None
    if b"\nsha256|" not in last:
        raise CommandFailed("the result came without its end; fetch it again", Exit.FINDINGS)
    return Exit.OK


def _with_biller(where: Where, biller: str) -> Config:
    config = where.load()
    if biller not in {each.name for each in config.billers}:
        raise CommandFailed("there is no such biller in the configuration; see [[billers]]")
    return config


def _check_customer(customer: str) -> None:
    if _CUSTOMER.match(customer) is None:
        raise CommandFailed("the customer is not 1 to 32 letters, digits or hyphens")


def _path(name: str) -> str:
    if _FILE_ID.match(name) is None:
        raise CommandFailed(
            "the file id is not 1 to 64 letters, digits, . _ or - without a long number; "
            "give another with --id"
        )
    return f"/v1/debit-files/{name}"


def _client(api: str, key_file: Path) -> httpx.Client:
    try:
        with key_file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            key = opened.read(KEY_CHARACTERS_MAX + 2).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise CommandFailed("the key file cannot be read; write the API key into it") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CommandFailed("others may read the key file; run chmod 600 on it")
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX or not key.isprintable() or " " in key:
        raise CommandFailed("the key file holds no API key; citycard api-key new makes one")
    if not api.startswith(("http://", "https://")):
        raise CommandFailed("--api is no address; write http://HOST:PORT or https://HOST:PORT")
    try:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=api, headers=headers, timeout=TIMEOUT, trust_env=False)
    except (httpx.InvalidURL, ValueError):
        raise CommandFailed("--api is no address; write http://HOST:PORT") from None


def _asked(
    api: str, key_file: Path, method: str, path: str, biller: str, content: Any = None
) -> dict[str, Any]:
    """The file as the API shows it. Raises CommandFailed with the API's own words."""
    headers = {"content-type": "text/plain"} if content is not None else {}
    with _client(api, key_file) as client:
        try:
            answer = client.request(
                method, path, params={"biller": biller}, content=content, headers=headers
            )
        except httpx.HTTPError as error:
            raise _unreachable(error) from None
    if answer.status_code >= 300:
        raise _refused(answer.status_code, answer.content)
    shown: dict[str, Any] = msgspec.json.decode(answer.content[:ANSWER_BYTES_MAX])
    return shown


def _refused(status: int, octets: bytes) -> CommandFailed:
    try:
        detail = str(msgspec.json.decode(octets[:ANSWER_BYTES_MAX])["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        detail = "its answer is no problem description; check the address"
    return CommandFailed(mask_digit_runs(f"the API refused it ({status}): {detail}"), Exit.FINDINGS)


def _unreachable(error: httpx.HTTPError) -> CommandFailed:
    return CommandFailed(
        f"the API did not answer ({type(error).__name__}); check --api, and send it again: "
        "what was accepted is not accepted twice",
        Exit.LEDGER_UNREACHABLE,
    )


def _show(shown: dict[str, Any], json: bool) -> None:
    if json:
        write_json(shown)
        return
    write(
        f"{shown['file_id']} of {shown['biller']}: {shown['state']}, "
        f"{shown['answered_count']:,} of {shown['row_count']:,} rows answered, "
        f"{shown['collected_count']:,} collected, {display_minor(shown['collected_minor'])} "
        f"of {display_minor(shown['total_minor'])}"
    )


class Bar:
    """A bar on a terminal's stderr; nothing elsewhere."""

    def __init__(self, words: str, total: int) -> None:
        columns = (TextColumn("{task.percentage:>3.0f} % " + words), BarColumn())
        console = Console(stderr=True)
        self._progress = Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
        )
        self._task = self._progress.add_task(words, total=total)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)

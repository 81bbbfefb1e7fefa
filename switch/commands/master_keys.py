"""`keys reader` and `keys tac`: master keys of readers and of chips, by version.

The keys of devices and cards are derived from these, so whoever personalises them needs the
master too: it comes here in components, or is made here and leaves in a TR-31 block.
"""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from switch.clock import SystemClock
from switch.commands.exits import CommandFailed, Exit
from switch.commands.key_places import key_store, octets_of
from switch.commands.ledger import HERE, Where
from switch.commands.output import Json, write, write_json
from switch.commands.secret_input import secret_lines
from switch.config import Config
from switch.keystore.seam import Algorithm, KeyHandle, Usage
from switch.keystore.software import COMPONENTS_MAX, SoftwareKeyStore
from switch.keystore.working import zone_label
from switch.net.tap.device_keys import TAC_PREFIX, VERSION_MAX, labelled, reader_prefix

reader = App(name="reader", help="Master keys of acquirers' readers.", help_format="plaintext")
tac = App(name="tac", help="Master keys of chips' TACs.", help_format="plaintext")

AcquirerOption = Annotated[str, Parameter(name="--acquirer", help="DE32 of a tap link.")]
VersionOption = Annotated[
    int, Parameter(name="--version", help="1 to 255; the next one if not given.")
]
KcvOption = Annotated[str, Parameter(help="Check value that the key must have, in hex.")]
UnderOption = Annotated[
    str, Parameter(name="--under", help="Link or upstream whose AES zone key wraps the block.")
]
AlgorithmOption = Annotated[
    Literal["tdes", "aes"], Parameter(help="tdes for PBOC purses, aes for new cards.")
]


@reader.command(name="install")
def install_reader(
    *,
    acquirer: AcquirerOption,
    version: VersionOption = 0,
    kcv: KcvOption = "",
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Install a reader master key: 2 or 3 components of 64 hex digits, or one with its --kcv.

    They are read from stdin, a line each. The version before it stays good for the overlap.
    """
    config = where.load()
    prefix = _reader_prefix(config, acquirer)
    return _install(config, where, prefix, version, Usage.READER, Algorithm.AES, kcv, json=json)


@reader.command(name="generate")
def generate_reader(
    *,
    acquirer: AcquirerOption,
    under: UnderOption,
    version: VersionOption = 0,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Make a reader master key and print its TR-31 block, for who personalises the readers."""
    config = where.load()
    prefix = _reader_prefix(config, acquirer)
    return _generate(config, where, prefix, version, Usage.READER, Algorithm.AES, under, json=json)


@tac.command(name="install")
def install_tac(
    *,
    version: VersionOption = 0,
    algorithm: AlgorithmOption = "aes",
    kcv: KcvOption = "",
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Install a TAC master key: 2 or 3 components in hex, a line each, or one with its --kcv.

    TDES keys and components have 32 hex digits, AES ones 64. They are read from stdin.
    """
    wanted = Algorithm(algorithm)
    config = where.load()
    return _install(config, where, TAC_PREFIX, version, Usage.TAC, wanted, kcv, json=json)


@tac.command(name="generate")
def generate_tac(
    *,
    under: UnderOption,
    version: VersionOption = 0,
    algorithm: AlgorithmOption = "aes",
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Make a TAC master key and print its TR-31 block, for who personalises the cards."""
    wanted = Algorithm(algorithm)
    config = where.load()
    return _generate(config, where, TAC_PREFIX, version, Usage.TAC, wanted, under, json=json)


def _install(
    config: Config,
    where: Where,
    prefix: str,
    version: int,
    usage: Usage,
    algorithm: Algorithm,
    kcv: str,
    *,
    json: bool,
) -> int:
    store = key_store(config, where, SystemClock())
    label = _next_label(store, prefix, version)
    prompts = [f"component {number}" for number in range(1, COMPONENTS_MAX + 1)]
    components = [octets_of(line) for line in secret_lines(prompts)]
    key = store.install(label, usage, algorithm, components, kcv)
    return _tell(key, "installed", "", json=json)


def _generate(
    config: Config,
    where: Where,
    prefix: str,
    version: int,
    usage: Usage,
    algorithm: Algorithm,
    under: str,
    *,
    json: bool,
) -> int:
    store = key_store(config, where, SystemClock())
    label = _next_label(store, prefix, version)
    zone = store.find(zone_label(under))
    if zone is None:
        raise CommandFailed(f"{under} has no zone key; run citycard keys zone install")
    if zone.algorithm is not Algorithm.AES:
        raise CommandFailed(f"the zone key of {under} is tdes; a master key needs an aes one")
    key = store.generate(usage, algorithm, label)
    return _tell(key, "made", store.export_block(key, zone, label), json=json)


def _tell(key: KeyHandle, done: str, block: str, *, json: bool) -> int:
    if json:
        told = {"name": key.label, "algorithm": key.algorithm, "kcv": key.kcv}
        write_json(told | ({"block": block} if block else {}))
        return Exit.OK
    write(f"{key.label} {done}, {key.algorithm.value}, check value {key.kcv}")
    if block:
        write(block)
    return Exit.OK


def _reader_prefix(config: Config, acquirer: str) -> str:
    if all(link.acquirer != acquirer for link in config.taps):
        raise CommandFailed("no tap link of the configuration has this acquirer; see [[taps]]")
    return reader_prefix(acquirer)


def _next_label(store: SoftwareKeyStore, prefix: str, version: int) -> str:
    taken = {key.label for key in store.labelled()}
    known = [number for number in range(1, VERSION_MAX + 1) if labelled(prefix, number) in taken]
    wanted = version or max(known, default=0) + 1
    if not 1 <= wanted <= VERSION_MAX:
        raise CommandFailed(f"a version is 1 to {VERSION_MAX}; give one of those")
    if known and wanted <= max(known):
        raise CommandFailed(
            f"version {max(known)} is there already; the newest version is the one that holds, "
            "so give a higher one"
        )
    return labelled(prefix, wanted)

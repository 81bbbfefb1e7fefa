"""What a configuration must satisfy across its keys, beyond each value on its own.

Each check is a generator of `Finding`s over the built structs. A finding names all keys it
was drawn from: when one of those was already at fault it holds a default, and a conclusion
drawn from that would only mislead.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec

from switch.config_reading import Problem

if TYPE_CHECKING:
    from switch.config import Config

LINKS_MAX = 64
"""Each link is a label value of the metrics, and each has its own port."""

ASCII4_FRAME_BYTES_MAX = 9_999
"""What four decimal digits can say."""

MATCH_KEY_MIN = ("terminal", "stan")
"""Without these two, different messages of one terminal would share an idempotency key."""


class Finding(msgspec.Struct, frozen=True):
    """A problem and the other keys it was drawn from."""

    problem: Problem
    drawn_from: tuple[str, ...] = ()


def problems_across(config: Config, already: list[Problem]) -> list[Problem]:
    """What is wrong across keys, leaving out what rests on a key that is wrong already."""
    faulty = {problem.key for problem in already}
    return [
        finding.problem
        for check in (_ledger, _server, _limits, _purses, _links, _ports, _frames, _tls, _upstreams)
        for finding in check(config)
        if not faulty.intersection({finding.problem.key, *finding.drawn_from})
    ]


def notes(config: Config) -> list[Problem]:
    """What is allowed but deserves a second look."""
    found = []
    host = config.server.host
    without_tls = [link for link in config.links if not link.tls.certificate_file]
    if without_tls and host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        found.append(
            Problem(
                "server.host",
                "it is not a loopback address, and links without TLS carry card numbers in clear",
                "give them TLS, or make sure that only the acquirers' network reaches it",
            )
        )
    return found


def _finding(key: str, problem: str, remedy: str, *drawn_from: str) -> Finding:
    return Finding(Problem(key, problem, remedy), drawn_from)


def _ledger(config: Config) -> Iterator[Finding]:
    try:
        ZoneInfo(config.ledger.time_zone)
    except (KeyError, ValueError, OSError):
        remedy = 'use an IANA name such as "Asia/Shanghai"'
        yield _finding("ledger.time_zone", "there is no such time zone", remedy)
    database = config.ledger.database
    if database and not database.startswith(("postgresql://", "postgres://")):
        remedy = "write postgresql://USER@HOST:PORT/NAME, or leave it empty for the embedded one"
        yield _finding("ledger.database", "it is not a Postgres URL", remedy)


def _server(config: Config) -> Iterator[Finding]:
    host = config.server.host
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            remedy = "give the address to listen on, such as 127.0.0.1 or ::1"
            yield _finding("server.host", "it is not an IP address", remedy)


def _limits(config: Config) -> Iterator[Finding]:
    limits = config.limits
    pairs = (
        ("batch_max", limits.batch_max, "lane_queue_max", limits.lane_queue_max),
        ("first_frame_seconds", limits.first_frame_seconds, "idle_seconds", limits.idle_seconds),
        (
            "frame_bytes_max",
            limits.frame_bytes_max,
            "unanswered_bytes_max",
            limits.unanswered_bytes_max,
        ),
    )
    for small, small_value, large, large_value in pairs:
        if small_value > large_value:
            problem = f"it is more than limits.{large}"
            remedy = f"make it {large_value} or less, or raise limits.{large}"
            yield _finding(f"limits.{small}", problem, remedy, f"limits.{large}")


def _purses(config: Config) -> Iterator[Finding]:
    order = config.purses.order
    if not order or len(set(order)) != len(order):
        remedy = 'name each purse once, such as ["TRN", "GEN"]'
        yield _finding("purses.order", "it is empty or names a purse twice", remedy)


def _links(config: Config) -> Iterator[Finding]:
    if not 1 <= len(config.links) <= LINKS_MAX:
        yield _finding("links", "there are none or too many", f"write 1 to {LINKS_MAX} [[links]]")
    seen: dict[str, int] = {}
    for index, link in enumerate(config.links):
        at = f"links[{index}]"
        first = seen.setdefault(link.name, index)
        if first != index:
            problem = f"links[{first}] has the same name"
            remedy = "give each link a name of its own"
            yield _finding(f"{at}.name", problem, remedy, f"links[{first}].name")
        yield from _match_key(at, link.match_key)
        yield from _currencies(at, link.currencies, config.ledger.currency)


def _match_key(at: str, match_key: tuple[str, ...]) -> Iterator[Finding]:
    missing = [part for part in MATCH_KEY_MIN if part not in match_key]
    if missing:
        problem = f"{' and '.join(missing)} is not in it, so different payments would be one"
        yield _finding(f"{at}.match_key", problem, f'add "{missing[0]}"')
    elif len(set(match_key)) != len(match_key):
        yield _finding(f"{at}.match_key", "it names a part twice", "name each part once")


def _currencies(at: str, currencies: tuple[str, ...], ledger: str) -> Iterator[Finding]:
    if set(currencies) != {ledger}:
        problem = "a ledger is kept in one currency, and the link must accept that and no other"
        yield _finding(f"{at}.currencies", problem, f'write ["{ledger}"]', "ledger.currency")


def _ports(config: Config) -> Iterator[Finding]:
    first_metrics = config.server.metrics_port
    last_metrics = first_metrics + config.server.workers - 1
    if first_metrics and last_metrics > 65_535:
        remedy = f"give {65_536 - config.server.workers} or less: each worker takes the next port"
        problem = "the last worker would get a port above 65535"
        yield _finding("server.metrics_port", problem, remedy, "server.workers")
    taken: dict[int, str] = {}
    for index, link in enumerate(config.links):
        key = f"links[{index}].port"
        if link.port == 0:
            continue
        other = taken.setdefault(link.port, key)
        if other != key:
            problem = f"{other} is the same port"
            yield _finding(key, problem, "give each link a port of its own", other)
        elif first_metrics and first_metrics <= link.port <= last_metrics:
            problem = "a worker answers for its metrics there"
            remedy = f"choose a port outside of {first_metrics} to {last_metrics}"
            yield _finding(key, problem, remedy, "server.metrics_port", "server.workers")


def _frames(config: Config) -> Iterator[Finding]:
    for index, link in enumerate(config.links):
        ascii4 = link.framing.length == "ascii4"
        if ascii4 and config.limits.frame_bytes_max > ASCII4_FRAME_BYTES_MAX:
            key = f"links[{index}].framing.length"
            problem = "four digits cannot say limits.frame_bytes_max"
            remedy = f'use "binary2", or limit frames to {ASCII4_FRAME_BYTES_MAX} bytes'
            yield _finding(key, problem, remedy, "limits.frame_bytes_max")


def _tls(config: Config) -> Iterator[Finding]:
    listeners = [(f"links[{index}].tls", link.tls) for index, link in enumerate(config.links)]
    listeners.append(("server.metrics_tls", config.server.metrics_tls))
    hosts = [(f"upstreams[{index}].tls", host.tls) for index, host in enumerate(config.upstreams)]
    for key, tls in listeners + hosts:
        certificate, private_key = f"{key}.certificate_file", f"{key}.private_key_file"
        if tls.certificate_file and not tls.private_key_file:
            problem = "there is a certificate and no private key"
            yield _finding(private_key, problem, "name its PEM file", certificate)
        elif tls.private_key_file and not tls.certificate_file:
            problem = "there is a private key and no certificate, so there would be no TLS"
            yield _finding(certificate, problem, "name its PEM file", private_key)
    for key, tls in listeners:
        if tls.authority_file and not (tls.certificate_file or tls.private_key_file):
            problem = "there is an authority and no certificate, so there would be no TLS"
            remedy = "name the PEM files of a certificate and of its private key"
            yield _finding(f"{key}.certificate_file", problem, remedy, f"{key}.authority_file")


def _upstreams(config: Config) -> Iterator[Finding]:
    names = {link.name: f"links[{index}].name" for index, link in enumerate(config.links)}
    for index, upstream in enumerate(config.upstreams):
        key = f"upstreams[{index}].name"
        other = names.setdefault(upstream.name, key)
        if other != key:
            # keys and metrics are found by it
            yield _finding(key, f"{other} is the same", "give each a name of its own", other)

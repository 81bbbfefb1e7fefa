"""TLS with real certificates: who gets in, who does not, and what a wrong file is told as."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from anyio.streams.tls import TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from switch.config import ConfigError, notes, parse
from switch.config_trouble import Tls
from switch.metrics import Metrics
from switch.net.draining import take_leave
from switch.net.tls import client_context, server_context

KEY = "links[0].tls"
DAY = datetime.timedelta(days=1)


class Pair(NamedTuple):
    """PEM files of a certificate and of its private key."""

    certificate: Path
    private_key: Path


class Authority:
    """Signs certificates for loopback; its own is in `certificate`."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = (
            _begun(self._name, self._name, self._key.public_key())
            .add_extension(constraints, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = directory / f"{name}.pem"
        self.certificate.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def signed(self, name: str, passphrase: bytes = b"") -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        loopback = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        )
        certificate = (
            _begun(subject, self._name, key.public_key())
            .add_extension(loopback, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.private_key.touch(mode=0o600)
        pair.private_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase)
                if passphrase
                else serialization.NoEncryption(),
            )
        )
        return pair


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Ours and a stranger's authority, and a certificate of each for a server and a client."""
    directory = tmp_path_factory.mktemp("tls")
    made = {}
    for name in ("ours", "strange"):
        authority = Authority(directory, name)
        made[name] = str(authority.certificate)
        for role in ("server", "client"):
            made[f"{name} {role}"] = tuple(map(str, authority.signed(f"{name}-{role}")))
        locked = authority.signed(f"{name}-locked", b"passphrase")
        made[f"{name} locked"] = tuple(map(str, locked))
    return made


def tls(files, pair: str = "", authority: str = "") -> Tls:
    certificate, private_key = files[pair] if pair else ("", "")
    return Tls(certificate, private_key, files[authority] if authority else "")


async def said_over(server: Tls, client: Tls, hostname: str = "127.0.0.1") -> bytes | None:
    """What the server hears over loopback; None where either refuses the other."""
    heard: list[bytes] = []
    context = server_context(server, KEY)
    assert context is not None

    async def handle(stream) -> None:
        async with stream:
            try:
                with anyio.fail_after(10):
                    wrapped = await TLSStream.wrap(
                        stream, server_side=True, ssl_context=context, standard_compatible=False
                    )
                    heard.append(await wrapped.receive())
                    await wrapped.send(b"answer")
            except (OSError, anyio.BrokenResourceError, anyio.EndOfStream):
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        try:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                with anyio.fail_after(10):
                    wrapped = await TLSStream.wrap(
                        stream,
                        hostname=hostname,
                        ssl_context=client_context(client, KEY),
                        standard_compatible=False,
                    )
                    assert wrapped.extra(anyio.streams.tls.TLSAttribute.tls_version) in (
                        "TLSv1.2",
                        "TLSv1.3",
                    )
                    await wrapped.send(b"hello")
                    assert await wrapped.receive() == b"answer"
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream):
            return None
        finally:
            tasks.cancel_scope.cancel()
    return heard[0]


async def test_a_client_that_knows_the_authority_gets_in(files):
    assert await said_over(tls(files, "ours server"), tls(files, "", "ours")) == b"hello"


async def test_a_server_of_another_authority_or_name_is_refused(files):
    assert await said_over(tls(files, "strange server"), tls(files, "", "ours")) is None
    assert await said_over(tls(files, "ours server"), tls(files, "", "ours"), "other.test") is None


async def test_with_an_authority_the_client_must_show_its_own_certificate(files):
    server = tls(files, "ours server", "ours")
    assert await said_over(server, tls(files, "ours client", "ours")) == b"hello"
    assert await said_over(server, tls(files, "", "ours")) is None
    assert await said_over(server, tls(files, "strange client", "ours")) is None


def test_nothing_named_is_no_tls():
    assert server_context(Tls(), KEY) is None
    assert client_context(Tls(), KEY) is None


def test_nothing_older_than_1_2_is_spoken(files):
    contexts = [
        server_context(tls(files, "ours server"), KEY),
        client_context(tls(files, "", "ours"), KEY),
    ]
    for context in contexts:
        assert context is not None
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("make", [server_context, client_context])
@pytest.mark.parametrize(
    ("spoil", "key", "says"),
    [
        (lambda t, d: (str(d / "none.pem"), t[1], t[2]), "certificate_file", "cannot be read"),
        (lambda t, d: (t[0], str(d), t[2]), "private_key_file", "cannot be read"),
        (lambda t, d: (t[0], t[1], str(d / "none.pem")), "authority_file", "cannot be read"),
        (lambda t, d: (t[0], t[0], t[2]), "private_key_file", "everybody may read it"),
        (lambda t, d: (t[0], t[1], t[1]), "authority_file", "holds no certificate"),
        (lambda t, d: (t[1], t[1], t[2]), "certificate_file", "no certificate and its key"),
    ],
)
def test_a_file_that_will_not_do_is_named_by_its_key(files, tmp_path, make, spoil, key, says):
    Path(files["ours server"][0]).chmod(0o644)
    good = (*files["ours server"], files["ours"])
    with pytest.raises(ConfigError) as raised:
        make(Tls(*spoil(good, tmp_path)), KEY)
    assert f"{KEY}.{key}: " in str(raised.value)
    assert says in str(raised.value)


def test_the_key_of_another_certificate_or_with_a_passphrase_will_not_do(files):
    crossed = Tls(files["ours server"][0], files["ours client"][1])
    for wrong in (crossed, tls(files, "ours locked")):
        with pytest.raises(ConfigError, match="without a passphrase"):
            server_context(wrong, KEY)


# ---- across keys of the configuration ----------------------------------------------------------

LINK = '[[links]]\nname = "a"\n[links.tls]\n'
UPSTREAM = (
    '[[upstreams]]\nname = "{}"\nhost = "h"\nport = 1\nbins = ["622848"]\nacquirer = "1"\n'
    "[upstreams.tls]\n"
)
HALF = [
    (LINK + 'certificate_file = "c"', "links[0].tls.private_key_file"),
    (LINK + 'private_key_file = "k"', "links[0].tls.certificate_file"),
    (LINK + 'authority_file = "a"', "links[0].tls.certificate_file"),
    ('[server.metrics_tls]\nauthority_file = "a"', "server.metrics_tls.certificate_file"),
    (UPSTREAM.format("b") + 'certificate_file = "c"', "upstreams[0].tls.private_key_file"),
    (UPSTREAM.format("retail-1"), "upstreams[0].name"),
]


@pytest.mark.parametrize(("text", "key"), HALF)
def test_a_section_that_is_named_but_half_is_a_problem(text, key):
    with pytest.raises(ConfigError) as raised:
        parse(text, "citycard.toml")
    assert [problem.key for problem in raised.value.problems] == [key]


@pytest.mark.parametrize(
    "text",
    [
        LINK + 'certificate_file = "c"\nprivate_key_file = "k"\nauthority_file = "a"',
        UPSTREAM.format("b") + 'authority_file = "a"',
    ],
)
def test_a_whole_section_is_none(text):
    assert parse(text, "citycard.toml")


def test_a_link_without_tls_on_a_public_address_is_noted():
    public = '[server]\nhost = "192.0.2.1"\n'
    assert notes(parse(public, "citycard.toml"))
    whole = public + LINK + 'certificate_file = "c"\nprivate_key_file = "k"'
    assert not notes(parse(whole, "citycard.toml"))


def scraped(port: int, client: Tls) -> str:
    address = f"https://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(address, context=client_context(client, KEY), timeout=10) as answer:
        return answer.read().decode()


def test_metrics_are_scraped_over_tls_by_who_shows_a_certificate(files):
    server = Metrics().serve("127.0.0.1", 0, tls(files, "ours server", "ours"))
    try:
        assert "citycard_ready" in scraped(server.port, tls(files, "ours client", "ours"))
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            scraped(server.port, tls(files, authority="ours"))
    finally:
        server.close()


# ---- a link whose connections are encrypted ------------------------------------------------


async def test_a_link_over_tls_answers_signs_off_and_parts_in_order(
    files, serving, approver, link_terms, ledger_loop
):
    context = server_context(tls(files, "ours server", "ours"), KEY)
    client = client_context(tls(files, "ours client", "ours"), KEY)
    async with serving(link_terms("iso87_ascii"), approver.submit, link={"tls": context}) as edge:
        peer = await edge.peer(signed_on=False)
        peer.stream = await TLSStream.wrap(
            peer.stream, hostname="127.0.0.1", ssl_context=client, standard_compatible=False
        )
        await peer.sign_on()
        await peer.send(*(peer.sale(stan) for stan in range(1, 101)))
        assert await peer.codes(100) == ["00"] * 100
        assert await take_leave([edge.link], edge.link.open_connections, edge.clock, 5) == 0
        assert await peer.ended() == [""]
        assert not peer.was_reset


async def test_a_peer_without_a_certificate_is_closed_alone(
    files, serving, approver, link_terms, ledger_loop
):
    context = server_context(tls(files, "ours server", "ours"), KEY)
    async with serving(link_terms("iso87_ascii"), approver.submit, link={"tls": context}) as edge:
        peer = await edge.peer(signed_on=False)
        await peer.write(b"0100 is no ClientHello")
        await peer.ended()
        assert (await edge.closed())["reason"] == "tls"
        silent = await edge.peer(signed_on=False)
        await edge.until(lambda: edge.link.open_connections)
        edge.clock.advance(601)
        await silent.ended()
        await edge.until(lambda: not edge.link.open_connections)
        assert edge.metric("citycard_link_state", link="retail-1", state="down") == 1
    assert not approver.requests

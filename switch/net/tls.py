"""TLS contexts of links, hosts and metrics: TLS 1.2 or newer, and mTLS where an authority is named.

A file that cannot be used is a problem of the configuration, told with the key that names
it; what OpenSSL says is not repeated. A private key that everybody may read is refused, and
one with a passphrase too, because nobody is there to type it.
"""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from switch.config_reading import ConfigError, Problem
from switch.config_trouble import Tls


def server_context(tls: Tls, key: str) -> ssl.SSLContext | None:
    """The context of a listener; None without a certificate, which is no TLS.

    With an authority, clients must show a certificate that it signed. `key` is the path of
    the section, such as `links[0].tls`. Raises ConfigError.
    """
    if not tls.certificate_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _show_certificate(context, tls, key)
    if tls.authority_file:
        _trust(context, tls, key)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: Tls, key: str) -> ssl.SSLContext | None:
    """The context of a connection to a host; None where the section is empty.

    The host's certificate must name it (pass `hostname` when wrapping) and be signed by the
    authority, or by one that the system trusts where none is named. With a certificate of
    our own we show it (mTLS). Raises ConfigError.
    """
    if not (tls.certificate_file or tls.authority_file):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.authority_file:
        _trust(context, tls, key)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if tls.certificate_file:
        _show_certificate(context, tls, key)
    return context


def _show_certificate(context: ssl.SSLContext, tls: Tls, key: str) -> None:
    _must_be_file(tls.certificate_file, f"{key}.certificate_file")
    _must_be_file(tls.private_key_file, f"{key}.private_key_file")
    if Path(tls.private_key_file).stat().st_mode & stat.S_IRWXO:
        raise _unusable(f"{key}.private_key_file", "everybody may read it", "run chmod 640 on it")
    try:
        context.load_cert_chain(tls.certificate_file, tls.private_key_file, password=_none_to_type)
    except (ssl.SSLError, OSError, ValueError):
        raise _unusable(
            f"{key}.certificate_file",
            "it and private_key_file are no certificate and its key",
            "give PEM files of one pair, the key without a passphrase",
        ) from None


def _trust(context: ssl.SSLContext, tls: Tls, key: str) -> None:
    _must_be_file(tls.authority_file, f"{key}.authority_file")
    try:
        context.load_verify_locations(tls.authority_file)
    except (ssl.SSLError, OSError):
        raise _unusable(
            f"{key}.authority_file", "it holds no certificate", "give a PEM file of authorities"
        ) from None


def _must_be_file(path: str, key: str) -> None:
    try:
        with Path(path).open("rb"):
            return
    except OSError as error:
        problem = f"the file cannot be read ({error.strerror})"
        raise _unusable(key, problem, "name a file that the switch may read") from None


def _none_to_type() -> str:
    return ""


def _unusable(key: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError("TLS", [Problem(key, problem, remedy)])

"""Where the server listens, and the certificate it shows; what is wrong with that, by file."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CERTIFICATE: Final = re.compile(rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----")
_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")
_MISMATCHES: Final = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


class TlsError(Exception):
    """The certificate or its key cannot be used."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen.

    Attributes:
        host: address or name; every address it has.
        port: 0 lets the system choose.
        certfile, keyfile: PEM files; both or neither.
    """

    host: str
    port: int
    certfile: str | None = None
    keyfile: str | None = None

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS 1.2 or newer, HTTP/2 by ALPN; None for plain HTTP.

        Raises:
            TlsError: a file that cannot be read, or is not what it should be.
        """
        if self.certfile is None or self.keyfile is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2", "http/1.1"])
        try:
            context.load_cert_chain(self.certfile, self.keyfile, password=_nobody_to_ask)
        except OSError as error:  # an SSLError is one
            raise TlsError(_fault(self.certfile, self.keyfile, error)) from None
        return context


def _nobody_to_ask() -> str:
    """OpenSSL would stop at the terminal and ask for the password of an encrypted key."""
    raise _EncryptedError


class _EncryptedError(OSError):
    """The key has a password."""


def _fault(certfile: str, keyfile: str, error: OSError) -> str:
    """Which of the two files cannot be used, and why; OpenSSL says "PEM lib" of them all."""
    if isinstance(error, _EncryptedError):
        return f"{keyfile} is encrypted, and nobody is here to type its password"
    if Path(certfile).is_fifo() or Path(keyfile).is_fifo():  # what was in it has been read
        return f"{certfile} and {keyfile} are no matching pair of PEM files"
    kinds = (certfile, _CERTIFICATE, "certificate"), (keyfile, _PRIVATE_KEY, "private key")
    for path, begins, kind in kinds:
        try:
            data = Path(path).read_bytes()
        except OSError as unread:
            return f"{path} cannot be read: {unread.strerror or unread}"
        if not begins.search(data):
            return f"{path} holds no {kind} in PEM form"
    match error:
        case ssl.SSLError(reason=str(reason)) if reason in _MISMATCHES:
            return f"{keyfile} is not the private key of the first certificate in {certfile}"
        case ssl.SSLError(library="SSL", reason=str(reason)):  # too small, too old a digest
            return f"{certfile} is refused by OpenSSL: {reason.lower().replace('_', ' ')}"
        case _:
            pass
    whole = _is_read(certfile)
    path, kind = (keyfile, "private key") if whole else (certfile, "certificate")
    return f"the {kind} in {path} is cut or damaged"


def _is_read(certfile: str) -> bool:
    """Whether OpenSSL can read every certificate of the file."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(certfile)
    except OSError:
        return False
    return True

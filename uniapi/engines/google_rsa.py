"""RS256 in plain Python: the one signature a Google service account needs.

A compiled cryptography package costs hours on the hosts this runs on; a 2048-bit signature takes
24 ms here, once an hour. Only what is needed is read: an RSA private key in PKCS#8 ("PRIVATE
KEY", what Google hands out) or PKCS#1 ("RSA PRIVATE KEY"), not encrypted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_PEM: Final = re.compile(
    r"-----BEGIN (?P<kind>(?:RSA )?PRIVATE KEY)-----"
    r"(?P<data>[A-Za-z0-9+/=\s]+)"
    r"-----END (?P=kind)-----"
)
_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_SEQUENCE: Final = 0x30
_RSA_OID: Final = bytes.fromhex("06092a864886f70d010101")  # rsaEncryption, RFC 8017 A.1
# DigestInfo of SHA-256 before the digest itself, RFC 8017 9.2.
_SHA256: Final = bytes.fromhex("3031300d060960864801650304020105000420")
_LEAST_BITS: Final = 1024


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """The numbers of an RSA key, named as in RFC 8017; they have no repr."""

    n: int
    e: int
    p: int
    q: int
    dp: int
    dq: int
    qinv: int

    @property
    def size(self) -> int:
        """Bytes of the modulus, and so of a signature."""
        return (self.n.bit_length() + 7) // 8

    def sign(self, message: bytes) -> bytes:
        """The RSASSA-PKCS1-v1_5 signature with SHA-256.

        Raises:
            ValueError: when the key's numbers do not belong together.
        """
        digest = _SHA256 + hashlib.sha256(message).digest()
        padding = b"\xff" * (self.size - len(digest) - 3)
        number = int.from_bytes(b"\x00\x01" + padding + b"\x00" + digest, "big")
        # The Chinese remainder theorem: two powers of half the length, a quarter of the time.
        low = pow(number, self.dq, self.q)
        high = pow(number, self.dp, self.p)
        signed = low + self.q * ((high - low) * self.qinv % self.p)
        if pow(signed, self.e, self.n) != number:
            raise ValueError("the private key is damaged")
        return signed.to_bytes(self.size, "big")


def private_key(pem: str) -> PrivateKey:
    """Read a PEM key; line breaks may be missing, or written as a backslash and an n.

    Raises:
        ValueError: for anything but a whole, unencrypted RSA private key.
    """
    found = _PEM.search(pem.replace("\\n", "\n"))
    if found is None:
        raise ValueError("the private key is not an unencrypted RSA key in PEM form")
    try:
        der = base64.b64decode("".join(found["data"].split()), validate=True)
        return _pkcs1(der if found["kind"].startswith("RSA") else _pkcs8(der))
    except (binascii.Error, IndexError, StopIteration):
        raise ValueError("the private key is cut or damaged") from None


def _pkcs8(der: bytes) -> bytes:
    """The PKCS#1 key inside `PrivateKeyInfo`, RFC 5208."""
    fields = _fields(_one(der, _SEQUENCE))
    next(fields)  # the version
    tag, algorithm = next(fields)
    if tag != _SEQUENCE or not algorithm.startswith(_RSA_OID):
        raise ValueError("the private key is not an RSA key")
    tag, key = next(fields)
    if tag != _OCTETS:
        raise IndexError
    return key


def _pkcs1(der: bytes) -> PrivateKey:
    """`RSAPrivateKey`, RFC 8017 A.1.2: version, n, e, d, p, q, dP, dQ, qInv."""
    numbers = [
        int.from_bytes(value, "big")
        for tag, value in _fields(_one(der, _SEQUENCE))
        if tag == _INTEGER
    ]
    _, n, e, _, p, q, dp, dq, qinv = numbers[:9] if len(numbers) >= 9 else [0] * 9
    if n.bit_length() < _LEAST_BITS or p * q != n:
        raise ValueError("the private key is cut or damaged")
    return PrivateKey(n, e, p, q, dp, dq, qinv)


def _one(der: bytes, wanted: int) -> bytes:
    """The content of the one value that is there."""
    tag, value = next(_fields(der))
    if tag != wanted:
        raise IndexError
    return value


def _fields(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value in a row of DER values.

    Raises:
        IndexError: when a value is longer than what is there.
    """
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(der[at : at + count], "big")
            at += count
        if at + length > len(der):
            raise IndexError
        yield tag, der[at : at + length]
        at += length

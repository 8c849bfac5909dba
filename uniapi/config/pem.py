"""What can be seen of a service account's key before anybody signs with it.

Only its wrapping is looked at: which kind it says it is, and whether it is as long as it says. To
take it apart is the engine's business. Placeholders are short and let through.
"""

from __future__ import annotations

import base64
import re
from typing import Final

_BLOCK: Final = re.compile(
    r"-----BEGIN (?P<kind>[A-Z0-9 ]+)-----(?P<body>.+?)-----END (?P=kind)-----", re.DOTALL
)
_RSA: Final = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY"})  # PKCS#8, what Google gives; PKCS#1
_SHORT: Final = 64  # letters; the smallest key that is used has some 600
_SEQUENCE: Final = 0x30  # what every key begins with in DER, before its length


def fault(pem: str) -> str | None:
    """Why this is no key to sign with, in words without the key; None when nothing is seen."""
    blocks = {found["kind"]: "".join(found["body"].split()) for found in _BLOCK.finditer(pem)}
    if not blocks:
        return "this is not a whole PEM key"
    for kind, body in blocks.items():
        if kind in _RSA:
            return "this key is cut or damaged" if _damaged(body) else None
    return "this PEM is no unencrypted private key"


def _damaged(body: str) -> bool:
    """Whether the DER inside is none, or is not as long as it says (X.690, 8.1.3)."""
    if len(body) < _SHORT:
        return False
    try:
        der = base64.b64decode(body, validate=True)
    except ValueError:
        return True
    count = der[1] - 0x80
    if der[0] != _SEQUENCE or count < 0:  # a length below 128 is its own, and no key's
        return True
    return len(der) != 2 + count + int.from_bytes(der[2 : 2 + count], "big")

"""Names and ids on their way to Gemini and back: function names, and signatures inside call ids.

Gemini 3 signs the first call of a step and refuses the call when it comes back without. OpenAI's
history has no place for a signature that every client keeps, but all of them keep the id of a
call: so it rides there. It also comes back as `extra_content.google.thought_signature` from
clients that spoke to Google's own OpenAI endpoint before.
"""

from __future__ import annotations

import re
from typing import Final

from uniapi.codec import Json

DUMMY: Final = "skip_thought_signature_validator"
"""Google's documented stand-in for a signature that was lost, or was never Gemini's."""

_MARK: Final = "_sig_"
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_.:-]")


def signed(identity: str, signature: str) -> str:
    """The id with the signature in it; only letters, digits, `_` and `-` are added."""
    if not _BASE64.fullmatch(signature):
        return identity
    safe = signature.rstrip("=").replace("+", "-").replace("/", "_")
    return f"{identity}{_MARK}{safe}"


def signature_in(identity: str) -> str | None:
    """The signature an id carries, as standard base64; None when it has none."""
    _, mark, safe = identity.partition(_MARK)
    if not mark or not _BASE64.fullmatch(safe):
        return None
    standard = safe.rstrip("=").replace("-", "+").replace("_", "/")
    return standard + "=" * (-len(standard) % 4)


def spoken(name: str) -> str:
    """A function's name as Gemini takes it: opens with a letter or `_`, 64 characters at most."""
    if _NAME.fullmatch(name):
        return name
    plain = _FOREIGN.sub("_", name)
    return (plain if _NAME.match(plain[:1]) else f"_{plain}")[:64]


def original(tools: Json) -> dict[str, str]:
    """From the names Gemini was given back to those the client gave, where they differ.

    Args:
        tools: the request's `tools` or `functions`.
    """
    found: dict[str, str] = {}
    for entry in tools if isinstance(tools, list) else []:
        match entry:
            case {"function": {"name": str(name)}} | {"name": str(name)} if spoken(name) != name:
                found[spoken(name)] = name
            case _:
                pass
    return found

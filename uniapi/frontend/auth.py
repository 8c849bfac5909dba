"""Who is asking: exact match by SHA-256, before the body is read, one answer for every failure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from uniapi.config.types import ClientKey, Config
from uniapi.errors import ApiError

_HEADERS: Final = ("x-api-key", "x-goog-api-key", "api-key")


def authenticate(config: Config, headers: Mapping[str, str]) -> ClientKey:
    """The client key a request carries.

    `Authorization: Bearer` counts first, then `x-api-key`, `x-goog-api-key`, `api-key`. The
    lookup is by digest: how long it takes says nothing about how much of a guess was right.

    Raises:
        ApiError: 401, the same for a missing, malformed or unknown key.
    """
    shown = _shown(headers)
    key = None
    if shown:
        digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
        key = config.keys_by_sha256.get(digest)
    if key is None:
        raise ApiError(
            401,
            "no valid API key: send one of this gateway's api_keys as 'Authorization: Bearer …'",
            code="invalid_api_key",
            type="authentication_error",
            headers=[(b"www-authenticate", b"Bearer")],
        )
    return key


def authenticate_admin(config: Config, headers: Mapping[str, str]) -> ClientKey:
    """As `authenticate`, for what only the operator may see.

    Raises:
        ApiError: 401 as there, 403 for a key without the admin role.
    """
    key = authenticate(config, headers)
    if not key.admin:
        raise ApiError(403, "this key is not an admin's: give it `role: admin`", "not_admin")
    return key


def _shown(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for name in _HEADERS:
        if value := headers.get(name, "").strip():
            return value
    return ""

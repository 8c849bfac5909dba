"""The configuration as values: what `api.yaml` means once nobody needs to read YAML any more.

Everything here is frozen. A reload builds a new `Config` and swaps one reference; requests in
flight keep theirs. Durations are seconds, sizes are bytes, names are as the user wrote them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from uniapi.codec import Json
from uniapi.config.bounds import ByModel, Hedge, RateLimits, Silence, TimeoutPolicy
from uniapi.config.targets import Everything, Rule

DEFAULT_TIMEOUT = 100.0  # seconds; the seeds' TIMEOUT default
DEFAULT_COOLDOWN = 300.0  # seconds; the seeds' cooldown_period default
DEFAULT_BODY_LIMIT = 32_000_000  # bytes
DEFAULT_RETENTION = 30 * 86_400.0  # seconds
_SENSITIVE = re.compile(r"auth|key|token|cookie|secret", re.IGNORECASE)  # names of headers


class Secret:
    """A key or password that cannot be printed by accident."""

    __slots__ = ("_value", "digest", "sha256")

    def __init__(self, value: str) -> None:
        self._value = value
        self.sha256 = hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
        self.digest = self.sha256.hex()[:12]

    def reveal(self) -> str:
        """The value itself: for the wire only, never for a log."""
        return self._value

    def __repr__(self) -> str:
        """A digest, which identifies the key and opens nothing."""
        return f"Secret({self.digest})"

    def __eq__(self, other: object) -> bool:
        """Equal by digest."""
        return isinstance(other, Secret) and other.sha256 == self.sha256

    def __hash__(self) -> int:
        """Hash of the digest."""
        return hash(self.sha256)


class KeySchedule(StrEnum):
    """Which key of a provider's pool comes first."""

    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    FIXED_PRIORITY = "fixed_priority"


class Algorithm(StrEnum):
    """Which channel comes first."""

    FIXED_PRIORITY = "fixed_priority"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    WEIGHTED_ROUND_ROBIN = "weighted_round_robin"
    LOTTERY = "lottery"


@dataclass(frozen=True, slots=True)
class RefuseRule:
    """One entry of `exclude_request_rules`: the provider is skipped when all of `match` fits."""

    match: tuple[tuple[str, tuple[str, ...]], ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refusals:
    """Requests a provider is not asked.

    Attributes:
        max_request_body_bytes: larger bodies go elsewhere; None for no limit.
        exclude_endpoints: exact paths, without a trailing slash.
        only_request_types: when not empty, only these.
        exclude_request_types: never these.
        rules: `exclude_request_rules`.
    """

    max_request_body_bytes: int | None = None
    exclude_endpoints: frozenset[str] = frozenset()
    only_request_types: frozenset[str] = frozenset()
    exclude_request_types: frozenset[str] = frozenset()
    rules: tuple[RefuseRule, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model as the provider calls it and as clients call it."""

    upstream: str
    name: str


@dataclass(frozen=True, slots=True)
class ProviderPreferences:
    """`providers[].preferences`."""

    api_key_rate_limit: RateLimits | None = None
    api_key_cooldown_period: float = 0.0
    api_key_rate_limit_cooldown_period: float | None = None
    api_key_quota_cooldown_period: float | None = None
    api_key_schedule_algorithm: KeySchedule = KeySchedule.ROUND_ROBIN
    model_timeout: ByModel[Silence] = field(default_factory=ByModel)
    timeout_policy: TimeoutPolicy | None = None
    keepalive_interval: ByModel[float] = field(default_factory=ByModel)
    cooldown_period: float | None = None
    proxy: Secret | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # may hold a key
    passthrough_request_headers: tuple[str, ...] = ()
    post_body_parameter_overrides: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provider:
    """An entry of `providers:`.

    Attributes:
        name: any text; what rules put before their first slash.
        base_url: as written, or None when `project_id`, `cf_account_id` or the engine implies it.
        keys: the provider's own API keys, each once; empty sends no key.
        models: None asks the provider (`discovery`).
        engine: the wire dialect when the user forces one, else None: inferred from `base_url`.
        tools: False strips tools and the history of their use.
        image: False strips image parts.
        refusals: requests this provider is not asked.
        preferences: `providers[].preferences`.
    """

    name: str
    base_url: str | None = None
    keys: tuple[Secret, ...] = ()
    models: tuple[ModelName, ...] | None = None
    engine: str | None = None
    tools: bool = True
    image: bool = True
    project_id: str | None = None
    private_key: Secret | None = None
    client_email: str | None = None
    region: str | None = None
    token_uri: str | None = None
    cf_account_id: str | None = None
    aws_access_key: Secret | None = None
    aws_secret_key: Secret | None = None
    aws_session_token: Secret | None = None
    aws_region: str | None = None
    api_version: str | None = None
    notes: str | None = None
    refusals: Refusals = field(default_factory=Refusals)
    preferences: ProviderPreferences = field(default_factory=ProviderPreferences)


@dataclass(frozen=True, slots=True)
class Channel:
    """A provider serving one model: what an attempt is addressed to.

    Attributes:
        provider: who is asked.
        upstream: the model's name there.
        name: the model's name here.
    """

    provider: Provider
    upstream: str
    name: str

    @property
    def label(self) -> str:
        """`provider/model`, for logs and the trail."""
        return f"{self.provider.name}/{self.upstream}"


@dataclass(frozen=True, slots=True)
class AutoRetry:
    """`AUTO_RETRY`.

    Attributes:
        enabled: False is one attempt.
        count: a number is that many retries; None goes through the list.
    """

    enabled: bool = True
    count: int | None = None


@dataclass(frozen=True, slots=True)
class KeyPreferences:
    """`api_keys[].preferences`; None means the global setting applies."""

    algorithm: Algorithm = Algorithm.FIXED_PRIORITY
    auto_retry: AutoRetry = field(default_factory=AutoRetry)
    rate_limit: RateLimits | None = None
    moderation: bool = False
    credits: float | None = None
    created_at: datetime | None = None
    deadline: float | None = None
    hedge: Hedge | None = None
    rescue: bool | None = None


@dataclass(frozen=True, slots=True)
class ClientKey:
    """An entry of `api_keys:`.

    Attributes:
        secret: what the client sends.
        rules: what it may use, in order of priority.
        role: free text, a label for logs; None when not given.
        admin: may use the admin endpoints.
        preferences: `api_keys[].preferences`.
    """

    secret: Secret
    rules: tuple[Rule, ...] = (Rule(Everything(), text="all"),)
    role: str | None = None
    admin: bool = False
    preferences: KeyPreferences = field(default_factory=KeyPreferences)

    @property
    def id(self) -> str:
        """The digest of the secret: the key's name in logs, state and nested rules."""
        return self.secret.digest


@dataclass(frozen=True, slots=True)
class Preferences:
    """The global `preferences`."""

    model_timeout: ByModel[Silence] = field(default_factory=ByModel)
    timeout_policy: TimeoutPolicy | None = None
    keepalive_interval: ByModel[float] = field(default_factory=ByModel)
    cooldown_period: float = DEFAULT_COOLDOWN
    error_triggers: tuple[str, ...] = ()
    rate_limit: RateLimits | None = None
    proxy: Secret | None = None
    model_price: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    hedge: Hedge | None = None
    rescue: bool = True
    max_request_body_bytes: int = DEFAULT_BODY_LIMIT
    stats_retention: float = DEFAULT_RETENTION


@dataclass(frozen=True)
class Config:
    """All of `api.yaml`.

    Attributes:
        providers: in file order; names are unique.
        keys: in file order; secrets are unique.
        preferences: the global ones.
        default_timeout: env `TIMEOUT`, else 100 s.
    """

    providers: tuple[Provider, ...] = ()
    keys: tuple[ClientKey, ...] = ()
    preferences: Preferences = field(default_factory=Preferences)
    default_timeout: float = DEFAULT_TIMEOUT

    @cached_property
    def providers_by_name(self) -> Mapping[str, Provider]:
        """Provider name to provider."""
        return {provider.name: provider for provider in self.providers}

    @cached_property
    def keys_by_id(self) -> Mapping[str, ClientKey]:
        """Client key digest to client key."""
        return {key.id: key for key in self.keys}

    @cached_property
    def keys_by_sha256(self) -> Mapping[bytes, ClientKey]:
        """Full SHA-256 of the secret to client key: what auth looks up."""
        return {key.secret.sha256: key for key in self.keys}

    def proxy_for(self, provider: Provider) -> Secret | None:
        """The proxy a provider is reached through: its own, else the one for all."""
        own = provider.preferences.proxy
        return self.preferences.proxy if own is None else own

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Every secret of the file, longest first: what must be scrubbed from foreign texts."""
        found = {key.secret.reveal() for key in self.keys}
        for p in self.providers:
            found.update(key.reveal() for key in p.keys)
            found.update(
                word
                for name, value in p.preferences.headers
                if _SENSITIVE.search(name)
                for word in (value, *value.split())
            )
            found.update(
                secret.reveal()
                for secret in (
                    p.private_key,
                    p.aws_access_key,
                    p.aws_secret_key,
                    p.aws_session_token,
                    p.preferences.proxy,
                )
                if secret is not None
            )
        if self.preferences.proxy is not None:
            found.add(self.preferences.proxy.reveal())
        return tuple(sorted((s for s in found if len(s) >= 6), key=len, reverse=True))

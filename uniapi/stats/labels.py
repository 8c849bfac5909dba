"""What a key is called in the statistics, where its digest says little to a person.

A client key is called by its `role`, which its owner chose to be read. A provider's key has no
such name, so it is called by its place: `openai #2`. Nothing of a key itself is a label, not even
its end: a digest tells keys apart, and four letters of a key in a file are four letters given away.
"""

from __future__ import annotations

from collections.abc import Mapping

from uniapi.config.types import Config


def labels(config: Config) -> Mapping[str, str]:
    """Digest to label for every key of the configuration; empty when there is nothing to call it.

    A key that two providers share is called by the first.
    """
    found = {
        key.digest: f"{provider.name} #{number}"
        for provider in reversed(config.providers)
        for number, key in reversed([*enumerate(provider.keys, start=1)])
    }
    return {**found, **{key.id: key.role or "" for key in config.keys}}

"""AWS's own listing of models, asked for on the control plane's host and read."""

from __future__ import annotations

import pytest

from uniapi.codec import Json, dumps
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines.base import Recipient
from uniapi.engines.bedrock import Bedrock


def asked(provider: Provider) -> Recipient:
    return Recipient(Channel(provider, "", ""), now=1_700_000_000)


def test_the_listing_is_a_signed_get() -> None:
    provider = Provider(
        "aws", aws_access_key=Secret("AK"), aws_secret_key=Secret("SK"), aws_region="eu-west-1"
    )
    call = Bedrock().catalogue(asked(provider))
    assert call is not None
    assert call.method == "GET"
    assert call.url == (
        "https://bedrock.eu-west-1.amazonaws.com/foundation-models"
        "?byInferenceType=ON_DEMAND&byOutputModality=TEXT"
    )
    proof = dict(call.headers)["authorization"]
    assert proof.startswith("AWS4-HMAC-SHA256 Credential=AK/20231114/eu-west-1/bedrock/")
    assert call.body == b""


def test_behind_another_host_nothing_is_known_of_a_listing() -> None:
    provider = Provider("aws", base_url="https://proxy.example/", aws_access_key=Secret("AK"))
    assert Bedrock().catalogue(asked(provider)) is None


def test_models_that_are_going_are_left_out() -> None:
    listing: Json = {
        "modelSummaries": [
            {"modelId": "amazon.nova-lite-v1:0", "modelLifecycle": {"status": "ACTIVE"}},
            {"modelId": "anthropic.claude-v2", "modelLifecycle": {"status": "LEGACY"}},
            {"modelId": "amazon.nova-lite-v1:0"},
            {"nonsense": 1},
        ]
    }
    assert Bedrock().models(dumps(listing)) == ("amazon.nova-lite-v1:0",)
    with pytest.raises(ValueError, match="not a list"):
        Bedrock().models(b"{}")

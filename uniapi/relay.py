"""A request to an endpoint other than chat, parsed once at the edge and never changed after.

Such a request is not understood, it is relayed: what the gateway must know of it is whom to ask
and how the answer will look; the rest goes on as it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from uniapi.codec import Json
from uniapi.multipart import Form

EMBEDDINGS: Final = "/v1/embeddings"
MODERATIONS: Final = "/v1/moderations"
IMAGES: Final = "/v1/images/generations"
IMAGE_EDITS: Final = "/v1/images/edits"
SPEECH: Final = "/v1/audio/speech"
TRANSCRIPTIONS: Final = "/v1/audio/transcriptions"

ENDPOINTS: Final = (EMBEDDINGS, MODERATIONS, IMAGES, IMAGE_EDITS, SPEECH, TRANSCRIPTIONS)
FORMS: Final = (IMAGE_EDITS, TRANSCRIPTIONS)  # those that take multipart/form-data

_JSON_TRANSCRIPTS: Final = (None, "json", "verbose_json", "diarized_json")


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """One request to be relayed.

    Attributes:
        endpoint: the canonical path, one of `ENDPOINTS`.
        model: the name the client asked for.
        fields: the JSON object as it came; of a form, its short text fields.
        form: the multipart body; None for JSON.
        stream: the client wants server-sent events.
        size: bytes of the request body.
    """

    endpoint: str
    model: str
    fields: Mapping[str, Json]
    form: Form | None = None
    stream: bool = False
    size: int = 0

    @property
    def whole(self) -> bool:
        """Whether the answer is one JSON body, which can fail over until its last byte."""
        if self.stream or self.endpoint == SPEECH:
            return False
        if self.endpoint == TRANSCRIPTIONS:
            return self.fields.get("response_format") in _JSON_TRANSCRIPTS
        return True


def texts(value: Json) -> Sequence[str] | None:
    """The texts of an `input` that is one or a list of them; None for tokens and the rest."""
    match value:
        case str(text):
            return (text,)
        case list(parts) if parts and all(isinstance(part, str) for part in parts):
            return tuple(str(part) for part in parts)
        case _:
            return None

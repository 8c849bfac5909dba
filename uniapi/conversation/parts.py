"""The content of a message, part by part."""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import unquote_to_bytes

from uniapi.codec import Json, JsonObject
from uniapi.conversation import Audio, File, Image, Inline, Refusal, Remote, Text, Uploaded
from uniapi.conversation.fields import an_object, maybe_object, maybe_text, text, wrong
from uniapi.errors import ApiError

_SCHEMES: Final = ("http://", "https://", "gs://")


def parts(content: Json, param: str) -> list[Text | Image | Audio | File | Refusal]:
    """The blocks of a message's content: text, a list of parts, or nothing; empty texts are gone.

    Raises:
        ApiError: 400 naming the part that cannot be read.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)] if content else []
    if not isinstance(content, list):
        raise wrong(param, "must be text, a list of parts, or null")
    found = [_part(part, f"{param}[{place}]") for place, part in enumerate(content)]
    return [block for block in found if block is not None]


def texts(content: Json, param: str) -> list[Text]:
    """The blocks of a content that may be text only (system, developer).

    Raises:
        ApiError: 400 for anything else.
    """
    found: list[Text] = []
    for block in parts(content, param):
        if not isinstance(block, Text):
            raise wrong(param, "may hold text only")
        found.append(block)
    return found


def _part(value: Json, param: str) -> Text | Image | Audio | File | Refusal | None:
    if isinstance(value, str):
        return Text(value) if value else None
    part = an_object(value, param)
    cache = maybe_object(part.get("cache_control"), f"{param}.cache_control")
    match part.get("type"):
        case "text" | None:
            said = text(part.get("text"), f"{param}.text")
            return Text(said, cache, thought_signature(part)) if said else None
        case "image_url":
            return _image(part.get("image_url"), f"{param}.image_url", cache)
        case "input_audio":
            return _audio(part.get("input_audio"), f"{param}.input_audio", cache)
        case "file":
            return _file(part.get("file"), f"{param}.file", cache)
        case "video_url":
            url, place = _address(part.get("video_url"), f"{param}.video_url")
            return File(source(url, place, "video/mp4"), None, cache, place)
        case "refusal":
            said = text(part.get("refusal"), f"{param}.refusal")
            return Refusal(said) if said else None
        case other:
            raise wrong(f"{param}.type", f"{other!r} is not a kind of part known here")


def thought_signature(value: JsonObject) -> str | None:
    """Google's signature, where Google's own OpenAI endpoint puts it."""
    match value.get("extra_content"):
        case {"google": {"thought_signature": str(signature)}}:
            return signature
        case _:
            return None


def _address(value: Json, param: str) -> tuple[str, str]:
    """A URL and its place: some clients send it bare, most as an object's `url`."""
    if isinstance(value, str):
        return value, param
    return text(an_object(value, param).get("url"), f"{param}.url"), f"{param}.url"


def _image(value: Json, param: str, cache: JsonObject | None) -> Image:
    url, place = _address(value, param)
    detail = value.get("detail") if isinstance(value, dict) else None
    media = source(url, place)
    if isinstance(media, Inline) and not media.media_type:
        raise wrong(place, "the data URI must name a media type, such as image/png")
    return Image(media, maybe_text(detail, f"{param}.detail"), cache, place)


def _audio(value: Json, param: str, cache: JsonObject | None) -> Audio:
    audio = an_object(value, param)
    data = text(audio.get("data"), f"{param}.data")
    if data[:5].lower() == "data:":
        data = data_uri(data, f"{param}.data").data
    if not data:
        raise wrong(f"{param}.data", "must not be empty")
    return Audio(_unbroken(data), text(audio.get("format"), f"{param}.format"), cache, param)


def _file(value: Json, param: str, cache: JsonObject | None) -> File:
    file = an_object(value, param)
    name = maybe_text(file.get("filename"), f"{param}.filename")
    if file.get("file_data") is not None:
        place = f"{param}.file_data"
        media = source(text(file["file_data"], place), place, "application/octet-stream")
        return File(media, name, cache, place)
    place = f"{param}.file_id"
    if file.get("file_id") is None:
        raise wrong(param, "must have file_data (a data URI) or file_id")
    return File(Uploaded(text(file["file_id"], place)), name, cache, place)


def source(url: str, param: str, default: str = "") -> Inline | Remote:
    """A data URI taken apart, or an address.

    Args:
        url: as it came.
        param: its place in the request.
        default: the media type of a data URI that names none.

    Raises:
        ApiError: 400 for other schemes, and for data that is not there.
    """
    url = url.strip()
    if url[:5].lower() == "data:":
        return data_uri(url, param, default)
    if url.lower().startswith(_SCHEMES):
        return Remote(url)
    raise wrong(param, "must be a data URI or an http(s) URL")


def data_uri(uri: str, param: str, default: str = "") -> Inline:
    """The media type and base64 of a data URI (RFC 2397); percent-encoded data becomes base64.

    Raises:
        ApiError: 400 when there is no comma, or nothing after it.
    """
    head, comma, data = uri[5:].partition(",")
    media_type, *parameters = (field.strip().lower() for field in head.split(";"))
    if not comma or not data:
        raise _no_data(param)
    if "base64" in parameters:
        data = _unbroken(data)
    else:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return Inline(media_type or default, data)


def _no_data(param: str) -> ApiError:
    return wrong(param, "the data URI holds no data")


def _unbroken(data: str) -> str:
    """Base64 without line breaks, which mail-minded encoders put in and providers refuse."""
    return data if data.isalnum() or not any(c in data for c in "\r\n ") else "".join(data.split())

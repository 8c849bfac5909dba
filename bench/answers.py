"""What an answer says, once all of it is there, and whether it is one."""

from __future__ import annotations

from uniapi.codec import Json, loads


class WrongError(Exception):
    """An answer that is not what was asked for; the message is its kind."""


def json_text(body: bytes) -> str:
    """The text of a JSON answer.

    Raises:
        WrongError: when it is not one.
    """
    match _loads(body):
        case {"choices": [{"message": {"content": str() as text}}, *_]}:
            return text
        case {"error": _}:
            raise WrongError("error object")
        case _:
            raise WrongError("not an answer")


def stream_text(body: bytes) -> str:
    """The text of a whole stream.

    Raises:
        WrongError: when it failed on the way, or does not end as a whole stream does.
    """
    words: list[str] = []
    finished = done = False
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        if not event.startswith(b"data:"):
            continue
        data = event[5:].strip()
        if data == b"[DONE]":
            done = True
            continue
        match _loads(data):
            case {"error": error} if error:
                raise WrongError("error event")
            case {"choices": [dict() as choice, *_]}:
                match choice.get("delta"):
                    case {"content": str() as content}:
                        words.append(content)
                    case _:
                        pass
                finished = finished or bool(choice.get("finish_reason"))  # some leave null out
            case _:
                pass  # usage, and what else may stand beside the choices
    if not finished:
        raise WrongError("no finish_reason")
    if not done:
        raise WrongError("no [DONE]")
    return "".join(words)


def _loads(data: bytes) -> Json:
    try:
        return loads(data)
    except ValueError:
        raise WrongError("not JSON") from None

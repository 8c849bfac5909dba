"""Scripted providers on loopback, for a first run, the bench and the tests."""

from uniapi.demo.behaviour import SIXTY, Behaviour, Fault, Prefill
from uniapi.demo.names import behaviour_for
from uniapi.demo.provider import Provider, by_name, serve, serve_stream
from uniapi.demo.seen import Request, Seen

__all__ = [
    "SIXTY",
    "Behaviour",
    "Fault",
    "Prefill",
    "Provider",
    "Request",
    "Seen",
    "behaviour_for",
    "by_name",
    "serve",
    "serve_stream",
]

"""Towards the clients: bare ASGI, no provider names."""

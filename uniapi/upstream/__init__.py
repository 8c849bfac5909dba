"""Towards the providers: the only rooms that know httpx."""

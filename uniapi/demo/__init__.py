"""Scripted providers on loopback, for a first run, the bench and the tests."""

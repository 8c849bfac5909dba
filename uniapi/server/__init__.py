"""Hypercorn's protocols on our own accept loop; the only rooms that know hypercorn.

Hypercorn's own `serve` dies as a whole when one connection raises, shields its writes so that a
client which stops reading can never be cancelled, and stops reading from a client that has
pipelined, so that its leaving goes unseen. Here every connection has a guard, a write deadline
inside the shield (`stream`), one deadline for reading that moves with what is expected
(`connection`), and a protocol that never stops listening for the end (`h1`). What is used of
hypercorn is held by a contract test.
"""

"""The wire dialects: one file a provider, pure functions over bytes, no I/O."""

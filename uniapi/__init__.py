"""uniapi: one OpenAI-format endpoint in front of every LLM provider you use."""

__version__ = "0.1.0"

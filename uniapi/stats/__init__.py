"""What is remembered of requests: counted for metrics, kept in a file, added up; never prompts."""

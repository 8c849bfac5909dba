"""What api.yaml says, as frozen values."""

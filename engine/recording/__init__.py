"""The recording: every message of a session in columns, live, on disk and reopened; what is computed from it; its exporters."""

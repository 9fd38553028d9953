"""The recording again, with what was found drawn on it."""

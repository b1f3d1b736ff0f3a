"""The decision core: pure, total, deterministic. No clock, no randomness, no I/O, no logging in here."""

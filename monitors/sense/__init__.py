"""One source a file: what it can see becomes signals, and nothing is concluded."""

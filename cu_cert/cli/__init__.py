"""The command line: one file a verb; it only parses, calls and prints."""

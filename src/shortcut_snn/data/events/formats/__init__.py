"""The files that recordings come in: one module a format, each a function from a file to its events."""

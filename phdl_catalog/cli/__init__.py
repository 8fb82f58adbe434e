"""The command line: one thin module a command group; the work is done elsewhere."""

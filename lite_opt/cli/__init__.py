"""The command `paddle-edge`; one file a command: its options, one call of the library, its view.

A command is a new file here, named as it is, that holds `command`, and a line in main.py's table.
It returns whether what it judged passed, or nothing where it judges nothing.
"""

"""The command `paddle-edge`: one file a command."""

"""A network that runs in a child process, and the messages between the two."""

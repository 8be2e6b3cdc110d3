"""The process that serves guests: its sockets, its loop, and whom it serves."""

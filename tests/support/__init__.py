"""What the tests stand on: a tiny model and the real server that serves it."""

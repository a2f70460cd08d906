"""What adapters and the modules that they change are called, by program."""

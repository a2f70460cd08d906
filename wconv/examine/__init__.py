"""What is in a file, for people and for programs."""

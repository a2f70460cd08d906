"""`python -m wconv` is the command `wconv`."""

from wconv.cli.program import entry

if __name__ == "__main__":  # workers of MPI and of processes import it under another name
    entry()

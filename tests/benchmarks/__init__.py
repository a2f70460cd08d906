"""How fast wconv is and how much memory it takes, beside other programs: `python -m tests.benchmarks`."""

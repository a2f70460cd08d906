"""What is particular to the programs that read the written models."""

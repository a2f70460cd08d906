"""What a file or a directory would do if another program loaded it. Nothing of it is done here."""

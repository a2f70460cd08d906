"""Where bytes come from: local files, read by range."""

"""The programs that load what is written: what each expects of names, layouts, configs and files."""

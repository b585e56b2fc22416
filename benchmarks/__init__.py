"""Suites: one TOML file each. Their names are the files' names."""

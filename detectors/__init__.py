"""One file, one condition: each reads canonical tables and returns findings."""

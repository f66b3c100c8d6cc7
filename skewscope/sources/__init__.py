"""Any recording to canonical tables: one file, one format; the format is found from content."""

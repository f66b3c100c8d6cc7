"""Turns findings into documents: the terminal page, skewscope.report/1 and its schema."""

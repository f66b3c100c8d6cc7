"""Live sources: each turns what a fleet tells in one window into tables."""

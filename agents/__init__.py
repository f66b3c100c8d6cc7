"""Node agent: reads one machine and exports what it saw."""

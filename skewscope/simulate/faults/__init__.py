"""Faults: one file a condition, each says what physically happens and changes the ground state accordingly."""

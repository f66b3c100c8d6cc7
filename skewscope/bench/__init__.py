"""How well conditions are found: simulated fleets whose truth is known, watched live, and scored."""

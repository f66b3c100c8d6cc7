"""The live terminal view of a job: what it asks, what it makes of the answers, how it draws and listens to keys."""

"""The heart: aligns clocks, splits time into work and waiting, replays what-ifs, prices causes."""

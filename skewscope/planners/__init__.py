"""Planners: one file, one remedy, found by its name; each is a subcommand of `skewscope plan`.

A planner is thin: it reads its arguments, asks pure functions of `skewscope.moe`, `skewscope.coding` or
`skewscope.optimize`, and returns a `Plan`. It neither prints nor writes.
"""

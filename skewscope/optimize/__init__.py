"""Optimisers of the planners: splits, packings, pipelines, placements, intervals. Pure functions over numpy arrays.

Each returns a result that carries before, after, a lower bound and whether the optimum is proved, and never proposes
what is worse than today.
"""

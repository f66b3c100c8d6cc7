"""Gradient coding: schemes, what they cost under measured delays, matrices and decoders. Pure functions over arrays.

Delays are `[rounds, workers]` in seconds. A load is the share of the whole batch that one worker computes in a round;
uncoded it is 1 / workers.
"""

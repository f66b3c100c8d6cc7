"""Expert loads as arrays: what limits the balance, and placements that raise it. Pure functions over numpy arrays.

Shapes, throughout: T steps or windows, L MoE layers, E logical experts, P slots (physical experts), G GPUs, N nodes,
S = P / G slots per GPU. Slot s belongs to GPU s // S, GPU g to node g // (G / N). Balancedness is mean over maximum of
the loads of GPUs, per layer; 1 is even.
"""

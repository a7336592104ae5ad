"""A live agent in memory, fed with mutated operations.

``python -m tests.fuzz --frames 1000000 --seed 7`` is the long form; pytest runs a short one. What a
frame is depends on the seed and its number only: ``--only N`` sends that one alone.
"""

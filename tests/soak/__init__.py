"""A real agent for minutes on end, with a fault of the platform every few seconds.

``python -m tests.soak --minutes 10 --rate 1000`` is the long form; pytest runs some seconds of it.
"""

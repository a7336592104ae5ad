"""What breaks the agent on purpose, and proves that nothing it had accepted is lost.

Each module here has one ``run(seed, count, directory)``: pytest runs it briefly, and
``python -m tests.chaos NAME --count N --seed S`` as long as wanted. The seed is printed; with the
same seed the same things are done at the same moments, as far as the machine keeps time.
"""

"""A deterministic simulation of the agent's whole world, to find faults between callbacks.

The agent (``oda.agent.Agent``, unchanged), the platform, the network and the disk run in one
process on one simulated clock. Nothing asks the real time, starts a thread, opens a socket or asks
for real chance, so a seed gives one history, the same each time.

::

    plan       what is going to happen: settings and steps, made from a seed (pure)
    world      carries a plan out: one machine, many lives of the agent on it
      scheduler    the one clock, and a reactor for each life of the agent
      network      connections that are slow, cut at any byte, silent, refused
      platform     the other end: reads frames, commits, answers pings, sends requests
      disk         what survives a crash, and when a commit ends, fails or hangs
      life         one process: from its start to its stop or its crash
      workload     publishers, operations and readings that call back into the agent
    history    what happened, as lines; and as facts for the oracle
    oracle     holds the promises of docs/delivery.md against the facts
    shrink     the smallest part of a failing plan that still fails
    planted    puts faults of the past (``known``) back and shows the seed that finds each

``python -m tests.simulation --seeds N --from S`` runs seeds; CONTRIBUTING.md says how to read a
failing history.
"""

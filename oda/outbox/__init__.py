"""The outbox: store and forward, from acceptance to acknowledgement.

A message is put, committed, taken to be sent, acknowledged, and kept a while longer; then its row
is deleted. The life of a row::

    put --> collecting --> being committed --> on disk             (transaction, committer, store)
             |  accepted is told when the commit has ended         (ledger)
             v
    head or unread --take--> in flight --retire--> lingering --> let go --> deleted
       ^       |                 |                     |
       |       |                 +--bury--> dead       |           (backlog, queue)
       +-------|------rewind-----+-----replay----------+
               +--> dropped: no room, too old, purged              (limits)

Who does what:

- ``outbox`` is the way of every message. ``backlog`` and ``queue`` know which rows of a class there
  are and where each is; ``backlog`` also says which class leaves first, and when the store learns
  of the sums and of what was acknowledged. ``limits`` says how much fits, and what goes where it
  does not. ``dead_letters`` keeps what can't be delivered.
- ``transaction`` holds what one commit changes; ``committer`` brings it to the ``store`` through a
  ``worker``. ``journal`` keeps operations in the same transactions. ``ledger`` keeps the sums, and
  tells. ``clock`` goes from one process to the next: ids, ages, and the watermark of what was
  acknowledged.
- The store is memory (``store``) or a file: ``sqlite_store`` reads, writes and moves it,
  ``database`` is SQLite as the outbox uses it, with the lock. ``recovery`` replaces a damaged file,
  and copies what ``salvage`` can read of it.
- For the operator, ``inspection`` looks from outside and never writes; ``maintenance`` takes over
  another store, and changes the outbox of an agent that has stopped.

The invariants (``Outbox.check_invariants`` checks them; the simulation does after every step):

1. A row of a class is in exactly one place: head, in flight, lingering, unread, or recovering.
2. What the queues hold is what ``stored`` says, in rows, bytes and datapoints.
3. accepted = delivered + dropped + dead + stored, in messages and in datapoints.
4. Nobody is told anything while state is being changed, and never twice.
5. A message is told accepted only once its row is on disk, or once the platform has read it while
   the disk fails.
6. At most one transaction is being committed, and no later one overtakes it.
7. A row is deleted from the store only after it has left its queue: acknowledged and lingered,
   buried, or dropped and counted.
8. A range of ids that is deleted covers no row that is wanted.
9. The end of an operation's record and the row of its answer are in one transaction.
10. No row above the watermark counts as acknowledged; no wanted row is at or below it.
"""

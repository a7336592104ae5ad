"""The outbox: store and forward, from acceptance to acknowledgement.

A message is put, committed, taken for sending, acknowledged, and retained for a while; then its row
is deleted. The life of a row::

    put --> collecting --> being committed --> on disk             (transaction, committer, store)
             |  the caller learns of acceptance after the commit   (ledger)
             v
    head or unread --take--> in flight --retire--> lingering --> let go --> deleted
       ^       |                 |                     |
       |       |                 +--bury--> dead       |           (backlog, queue)
       +-------|------rewind-----+-----replay----------+
               +--> dropped: no room, too old, purged              (limits)

The modules:

- ``outbox`` is the entry point for every message. ``backlog`` and ``queue`` know which rows of a
  class exist and where each one is. ``backlog`` also decides which class leaves first, and when the
  store records the sums and the acknowledgements. ``limits`` decides how much fits, and what to
  drop. ``dead_letters`` keeps messages that can't be delivered.
- ``transaction`` holds the changes of one commit; ``committer`` passes them to the ``store``
  through a ``worker``. ``journal`` keeps operations in the same transactions, and recognises
  repeated ones by their ``fingerprint``. ``ledger`` keeps the sums, and fires the callers'
  Deferreds. ``clock`` continues from one process to the next: ids, ages, and the watermark of
  acknowledged rows.
- The store is memory (``store``) or a file: ``sqlite_store`` reads, writes and moves the file, and
  ``database`` holds the outbox's use of SQLite, and the lock. ``recovery`` replaces a damaged file
  and copies what ``salvage`` can read of it.
- For the operator, ``inspection`` reads a store from outside and never writes; ``maintenance``
  takes over another store, and changes the outbox of a stopped agent.

The invariants (``Outbox.check_invariants`` checks them; the simulation does so after every step):

1. A row of a class is in exactly one place: head, in flight, lingering, unread, or recovering.
2. The contents of the queues equal ``stored``, in rows, bytes and datapoints.
3. accepted = delivered + dropped + dead + stored, in messages and in datapoints.
4. No caller is notified during a change of state, and none is notified twice.
5. A message is reported as accepted only once its row is on disk, or once the platform has read it
   while the disk fails.
6. At most one transaction is being committed, and no later one overtakes it.
7. A row is deleted from the store only after it has left its queue: acknowledged and lingered,
   buried, or dropped and counted.
8. A deleted range of ids covers no wanted row.
9. The end of an operation's record and the row of its answer are in one transaction.
10. No row above the watermark counts as acknowledged; no wanted row is at or below it.
"""

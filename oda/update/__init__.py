"""UPDATE: files, configuration and packages that the platform installs, all of them or none.

::

    PREPARING --> CHANGING --> CONFIRMING --> COMMITTED
        |            |          |  ^    |
        |            v          v  |    v
        |         ROLLING_BACK <-- | -- (stop) RESTARTED
        |            |    |        |             |
        |            |    |        +-------------+ (next start)
        +------------+    +--> BROKEN --(next start)--> ROLLING_BACK
                     v
                ROLLED_BACK

``PREPARING`` downloads, checks and makes the backups; nothing has changed yet. ``CHANGING`` is on
disk, with all that the installers need to take everything back, before the first change. After the
last one, in ``CONFIRMING``, the agent must be connected and acknowledged again within
``updateConfirm``. ``COMMITTED`` or ``ROLLED_BACK`` are on disk before backups are deleted, and stay
there until the next update: whoever asks for the answer gets the one that follows from them.

So the rule for a process that finds an update of an earlier one: COMMITTED and ROLLED_BACK are
over; anything else is taken back. The exception is an agent that was stopped in good order while it
waited for the confirmation (``RESTARTED``): the next process goes on waiting. An update that
could not be taken back completely is BROKEN. Its backups stay, and each start tries again.

=================  ================================================================================
Module             Its job
=================  ================================================================================
elements           reads the request, and refuses what is wrong in it
record             the file that holds how far an update is; one process at a time
run                one update, from BEGINUPDATE to ENDUPDATE
operation          the operation UPDATE: one update at a time, recovery, the answer
recovery           takes files back before the agent reads its configuration
download, tunnel   fetches a file, through the connection's proxy where there is one
validation         digests and signatures
installers         which installer an element gets
places             opens what is below ``updateRoots``, and nothing else
files, trees       the installer of files and directories; archives
configuration      the installer of this agent's .cfg files
packages           the installer that runs commands
=================  ================================================================================
"""

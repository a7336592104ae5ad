"""From the .cfg files of a directory to ``oda.settings``: all faults at once, watched for changes.

``properties`` reads the syntax, ``parsers`` and ``lines`` read values, ``keys`` is the machinery of
the tables that ``components`` holds, ``interpretation`` applies them, ``files`` and ``loader`` are
the shell. ``changes`` compares two settings, ``watch`` notices that the directory changed and
``reference`` writes the documentation of every key.
"""

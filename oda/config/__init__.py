"""From the .cfg files of a directory to ``oda.settings``: all faults at once, watched for changes.

``properties`` reads the syntax; ``parsers`` and ``lines`` read values. ``components`` holds the
tables, ``keys`` the machinery for them, and ``interpretation`` applies them. ``files`` and
``loader`` are the shell around it. ``changes`` compares two settings, ``watch`` notices that the
directory has changed, and ``reference`` writes the documentation of every key.
"""

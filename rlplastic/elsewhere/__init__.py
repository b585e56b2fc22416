"""Runs of other programs, made into a results folder that every verb reads like its own.

::

    files -> episodes (logs.py: csv_logs.py, event_logs.py) -> rows on one clock (placing.py)
          -> runs with the phases of the given shifts (runs.py) -> plan and records (write.py)
"""

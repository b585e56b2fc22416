"""Metrics: pure functions of a `Case`, one family a file.

A metric takes one `rlplastic.metrics.curve.Case`, that is one arm on one task with one seed, with
its newborns and its references beside it, and returns either one number or one number for each
shift. A metric that cannot be known returns NaN, which the report shows as n/a; it never guesses.
"""

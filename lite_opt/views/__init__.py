"""Results for people: tables, pages, drawings. Nothing here computes a verdict.

The `view` of a module yields what a terminal shows of one result, from top to bottom: tables and
lines, and Remarks, which go to standard error.
"""

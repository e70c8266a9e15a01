"""Wraps private and undocumented names of other libraries, each in one place. A test for each fails if the name
changes."""

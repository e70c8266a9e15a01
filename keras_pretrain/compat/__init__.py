"""Private and undocumented names of other libraries, each in one place, with a test that fails if it changes."""

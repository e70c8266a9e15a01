"""Private and undocumented names of other libraries, each in one place and with a test that notices when it changes."""

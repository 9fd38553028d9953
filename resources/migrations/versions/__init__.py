"""One file per revision, oldest first by number. A revision that has been released never changes."""

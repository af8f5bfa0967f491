"""One file for each third party. Nothing here is imported unless the settings ask for it."""

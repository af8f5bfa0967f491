"""One file for each third party. Nothing imports from here; name in INSTALLED_APPS what you use."""

"""The engine: keys, fingerprints, policies, outcomes and the one path that executes. Standard library only."""

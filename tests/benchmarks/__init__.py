"""How fast the protected view is, how that holds as records grow, and what a purge costs the requests beside it.

``python -m tests.benchmarks`` is the one command; it needs PostgreSQL and wrk.
"""

"""A build in a process of its own, to be killed: ``python -m tests.reprocessing.builder BATCH_SIZE``."""

from __future__ import annotations

import sys

import django

if __name__ == "__main__":
    django.setup()

    from django_idempotency.reprocessing import Rollout
    from tests.reprocessing.projections import Adding

    def progress(rows: int) -> None:
        """Let the one who kills see how far it is."""
        sys.stdout.write(f"{rows}\n")
        sys.stdout.flush()

    projection = Adding(version=1)
    projection.batch_size = int(sys.argv[1])
    Rollout(projection).build(progress)

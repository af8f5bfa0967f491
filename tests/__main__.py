"""``python -m tests`` runs the suite on PostgreSQL and on SQLite; arguments are passed on to pytest.

Both run at the same time where there is more than one processor; what SQLite has to say comes last.
"""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryFile
from typing import IO


def main() -> int:
    """Return the worse of the two exit statuses; with DATABASE_URL set, only that database is run."""
    if "DATABASE_URL" in os.environ:
        return run(os.environ["DATABASE_URL"]).wait()
    if (os.cpu_count() or 1) == 1:
        return max(run("").wait(), run("sqlite").wait())
    with TemporaryFile("w+") as said:
        later = run("sqlite", said)
        worst = max(run("").wait(), later.wait())
        said.seek(0)
        sys.stdout.writelines(said)
    return worst


def run(url: str, output: IO[str] | None = None) -> subprocess.Popen[bytes]:
    """Start pytest on a database, which is one that is made for it where there is no URL."""
    print(f"== {url or 'postgresql'} ==", file=output, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    return subprocess.Popen(command, env=environment | ({"DATABASE_URL": url} if url else {}), stdout=output)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests`` runs the suite on PostgreSQL and then on SQLite; arguments are passed on to pytest."""

import os
import subprocess
import sys


def main() -> int:
    """Return the worse of the two exit statuses; with DATABASE_URL set, only that database is run."""
    databases = [os.environ["DATABASE_URL"]] if "DATABASE_URL" in os.environ else ["", "sqlite"]
    worst = 0
    for url in databases:
        print(f"== {url or 'postgresql'} ==", flush=True)
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        if url:
            environment["DATABASE_URL"] = url
        worst = max(worst, subprocess.call([sys.executable, "-m", "pytest", *sys.argv[1:]], env=environment))
    return worst


if __name__ == "__main__":
    sys.exit(main())

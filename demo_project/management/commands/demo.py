"""Shows what the library does: makes duplicates on a real server and counts what they wrote."""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, cast

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.db import connection
from django.test.utils import override_settings
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from demo_project.banking import ledger
from demo_project.clients import PATH, TOKEN, new_key
from demo_project.models import BankTransaction, Charge, Fact, Invoice, Payout, Receipt
from demo_project.reports import Report
from demo_project.results import Facts
from demo_project.scenarios import NEED_A_BROKER, SCENARIOS, play
from demo_project.servers import EmbeddedKafka, ServerUnavailable, embedded_kafka, run_on_embedded_postgresql
from demo_project.serving import Server, ServerFailed, free_port, is_free, serving, serving_bank
from demo_project.settings import kafka_brokers

_SERVED_WITH = {
    "DEMO_FAULTS": "1",
    "DEMO_LEASE_SECONDS": "2",  # what a scenario waits for
    # Plain HTTP on this machine, whatever the environment asks of a deployment.
    "DJANGO_HTTPS": "0",
    "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost",
}


class Command(BaseCommand):
    """Serves the demo, plays the scenarios, prints a table, and keeps serving."""

    help = "Makes duplicate requests in many ways on a real server, and prints how often each was executed."
    requires_system_checks = ()  # they may open the database, which --postgres is about to change

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--exit", action="store_true", help="End after the table; status 1 if a verdict fails.")
        parser.add_argument("--json", action="store_true", help="Print JSON in place of the table.")
        parser.add_argument(
            "--postgres", action="store_true", help="PostgreSQL: DATABASE_URL, or one that comes along."
        )
        parser.add_argument("--port", type=int, help="Port to serve at (default: 8000 if it is free, else any).")

    def handle(self, *args: Any, **options: Any) -> None:
        """Play, print, serve."""
        _end_as_by_ctrl_c()
        try:
            if options["postgres"] and connection.vendor != "postgresql":
                raise SystemExit(run_on_embedded_postgresql(self._command_line()))
            self._run(options)
        except (ServerFailed, ServerUnavailable) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None

    def _command_line(self) -> list[str]:
        return [sys.executable, str(settings.BASE_DIR / "manage.py"), *sys.argv[1:]]

    def _run(self, options: dict[str, Any]) -> None:
        if connection.settings_dict["NAME"] == ":memory:":
            raise CommandError("The server needs a database that other processes can open, not one in memory.")
        port = options["port"] or free_port()
        if not is_free(port):
            raise CommandError(f"The port {port} is in use.")
        self.check()
        call_command("demo_seed", verbosity=0)
        with self._broker() as left_out:
            self._serve(port, options, left_out)

    @contextmanager
    def _broker(self) -> Iterator[frozenset[str]]:
        """Have a broker that the settings name; yield the scenarios that have to do without one."""
        if hasattr(settings, "IDEMPOTENCY_BROKERS"):
            yield frozenset()
            return
        try:
            broker = _started_broker()
        except (ServerUnavailable, ImportError) as error:
            names = ", ".join(sorted(NEED_A_BROKER))
            self.stderr.write(self.style.WARNING(f"Left out: {names}. {error}"))
            yield NEED_A_BROKER
            return
        os.environ["KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers  # of the processes that are started
        try:
            with override_settings(IDEMPOTENCY_BROKERS=kafka_brokers(broker.bootstrap_servers)):
                yield frozenset()
        finally:
            broker.stop()

    def _serve(self, port: int, options: dict[str, Any], left_out: frozenset[str]) -> None:
        with serving_bank() as bank_url, serving(port, {**_SERVED_WITH, "DEMO_BANK_URL": bank_url}) as server:
            try:
                report = self._play(server, bank_url, left_out)
            except Exception:
                self._show_log(server)
                raise
            self._print(report, as_json=options["json"])
            if not report.holds:
                self._show_log(server)
            if not options["exit"]:
                self._keep_serving(server, self.stderr if options["json"] else self.stdout)
            if not report.holds:
                raise SystemExit(1)

    def _show_log(self, server: Server) -> None:
        self.stderr.write(f"The server's log: {server.log}")

    def _play(self, server: Server, bank_url: str, left_out: frozenset[str]) -> Report:
        started, results = time.monotonic(), list[Facts]()
        ledger_of = partial(ledger, bank_url)
        with _progress() as progress:
            scenarios = [scenario for scenario in SCENARIOS if scenario not in left_out]
            task = progress.add_task("", total=len(scenarios))
            for scenario in scenarios:
                progress.update(task, description=scenario)
                results.append(play(scenario, server.url, _rows_of, ledger_of))
                progress.advance(task)
            progress.update(task, description="all scenarios")
        return Report(database=connection.display_name, results=results, seconds=time.monotonic() - started)

    def _print(self, report: Report, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(report.to_json())
        else:
            report.print_table(cast("IO[str]", self.stdout))

    def _keep_serving(self, server: Server, stream: OutputWrapper) -> None:
        stream.write(f"\nAdmin: {server.url}/admin/ (admin, password admin). Send this twice:\n")
        stream.write(
            f"curl -i {server.url}{PATH} -H 'Authorization: Token {TOKEN}' -H 'Idempotency-Key: \"{new_key()}\"' "
            '-H \'Content-Type: application/json\' -d \'{"user_id": "alice", "amount_cents": 1000}\''
        )
        stream.write("\nCtrl-C ends.")
        stream.flush()
        try:
            server.wait()
        except KeyboardInterrupt:
            stream.write("")


def _rows_of(user_id: str) -> tuple[str, ...]:
    ids = (model._default_manager.values_list("id", flat=True) for model in (Charge, Payout, Receipt, Invoice))
    lines = BankTransaction.objects.filter(account=user_id).values_list("id", flat=True)
    facts = Fact._default_manager.filter(biz_key__startswith=f"{user_id}-").values_list("biz_key", flat=True)
    return (*(found for rows in ids for found in rows.filter(user_id=user_id)), *map(str, lines), *facts)


def _started_broker() -> EmbeddedKafka:
    """Start a broker if there is a client to speak to it. Raises ServerUnavailable, ImportError."""
    import confluent_kafka  # noqa: F401

    return embedded_kafka()


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _end_as_by_ctrl_c() -> None:
    """Let other ends be as orderly: a server would outlive a process that just dies."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)

"""Settings of the processes of the campaign of streams: those of the tests, with its consumers and its broker."""

import os

from tests.kafka_servers import brokers
from tests.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests.campaigns.streaming"]  # noqa: F405
IDEMPOTENCY_BROKERS = brokers(os.environ["KAFKA_BOOTSTRAP_SERVERS"])
IDEMPOTENCY_INBOX_TTL = float(os.environ.get("CAMPAIGN_INBOX_TTL", 14 * 24 * 3600))
LOGGING = {
    "version": 1,
    "formatters": {"timed": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "timed"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

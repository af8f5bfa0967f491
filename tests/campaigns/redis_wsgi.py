"""The app of the campaign against Redis.

CAMPAIGN_URLS names its routes, CAMPAIGN_REDIS is its URL, CAMPAIGN_TIMEOUT the seconds that it may take to answer,
CAMPAIGN_PAUSE for how many seconds a Redis that fails is left alone (else as long as the product does),
CAMPAIGN_LOOKUPS a file that gets a byte for each look-up in the database.
"""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django_application = get_wsgi_application()

from django_idempotency.core.records import Operation, Record  # noqa: E402 - needs the apps
from django_idempotency.stores.cached import CachedDatabaseStore  # noqa: E402
from django_idempotency.stores.connections import RedisConnection  # noqa: E402
from django_idempotency.stores.database import DatabaseStore  # noqa: E402
from tests.campaigns.failpoints import Failpoints, install  # noqa: E402
from tests.redis_servers import cache  # noqa: E402


class Store(CachedDatabaseStore):
    """Asks a Redis again that has failed as soon as a campaign wants it to."""

    def __init__(self) -> None:
        super().__init__()
        if seconds := os.environ.get("CAMPAIGN_PAUSE"):
            self.redis = RedisConnection(self.cache, breaker_pause=float(seconds))


settings.ROOT_URLCONF = os.environ.get("CAMPAIGN_URLS", "tests.campaigns.urls_redis")
if url := os.environ.get("CAMPAIGN_REDIS"):
    seconds = float(os.environ.get("CAMPAIGN_TIMEOUT", "0.1"))
    settings.CACHES = {"default": cache(url, SOCKET_TIMEOUT=seconds, SOCKET_CONNECT_TIMEOUT=seconds)}
    settings.IDEMPOTENCY_STORES = {"default": {"BACKEND": f"{__name__}.Store"}}
if path := os.environ.get("CAMPAIGN_LOOKUPS"):
    lookups = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    recall = DatabaseStore.recall

    def counted(store: DatabaseStore, operation: Operation) -> Record | None:
        """Note that a request has passed Redis by, as each does once that asks the database."""
        os.write(lookups, b".")
        return recall(store, operation)

    DatabaseStore.recall = counted  # type: ignore[method-assign]

install()
application = Failpoints(django_application)

"""Routes of the campaign against Redis: the payments of the tests, and the same taking their time."""

import time

from rest_framework.routers import SimpleRouter
from rest_framework.serializers import BaseSerializer

from tests.models import Payment
from tests.urls import urlpatterns as common
from tests.views import PaymentViewSet

SLOW_SECONDS = 0.5


class SlowPaymentViewSet(PaymentViewSet):
    def perform_create(self, serializer: BaseSerializer[Payment]) -> None:
        serializer.save()
        time.sleep(SLOW_SECONDS)


router = SimpleRouter()
router.register("slow", SlowPaymentViewSet, basename="slow")
urlpatterns = [*common, *router.urls]

"""Routes of the campaign that counts: payments, of which those of 13 break off after they were written."""

from rest_framework.routers import SimpleRouter
from rest_framework.serializers import BaseSerializer

from tests.models import Payment
from tests.views import PaymentViewSet

BREAKS = 13


class BreakingPaymentViewSet(PaymentViewSet):
    def perform_create(self, serializer: BaseSerializer[Payment]) -> None:
        serializer.save()
        if serializer.instance and serializer.instance.amount == BREAKS:
            raise ArithmeticError


router = SimpleRouter()
router.register("payments", BreakingPaymentViewSet)
urlpatterns = router.urls

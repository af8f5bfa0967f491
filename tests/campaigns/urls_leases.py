"""Routes of the lease campaigns."""

from rest_framework.routers import SimpleRouter

from tests.campaigns import views_leases

router = SimpleRouter()
router.register("payments", views_leases.LeasedPaymentViewSet, "payments")
router.register("payouts", views_leases.PayoutViewSet, "payouts")
router.register("careful-payouts", views_leases.CarefulPayoutViewSet, "careful-payouts")
router.register("keyless-payouts", views_leases.KeylessPayoutViewSet, "keyless-payouts")

urlpatterns = router.urls

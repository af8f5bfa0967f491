"""What ``idempotency_doctor`` finds: trials of the stores, and what their servers say of themselves."""

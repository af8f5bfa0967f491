"""A small payment service that shows what the library does."""

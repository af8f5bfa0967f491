"""One file for each third party; nobody else imports it."""

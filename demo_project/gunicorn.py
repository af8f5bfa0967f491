"""How the demo command serves: several processes with several threads each, so that duplicates really meet."""

wsgi_app = "demo_project.wsgi:application"
worker_class = "gthread"
workers = 2
threads = 4
preload_app = True
graceful_timeout = 2
loglevel = "info"
# A socket in the user's home would be one for all that is served on this machine.
control_socket_disable = True

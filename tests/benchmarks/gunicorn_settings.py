"""Gunicorn settings of the measured service; a name that an older gunicorn does not know is ignored."""

worker_class = "gthread"
loglevel = "warning"
control_socket_disable = True

"""A Prometheus exporter and alerting sidecar for the qmail mail server."""

__version__ = "0.1.0"

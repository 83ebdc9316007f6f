"""The model: messages, recipients, deliveries, and every sum over them.

Pure, as `formats` is: looks and log records go in, moments are arguments, nothing is read or written.
"""

from qmail_exporter.queue.flow import Flow
from qmail_exporter.queue.model import Queue

__all__ = ["Flow", "Queue"]

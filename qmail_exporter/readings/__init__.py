"""Where each metric's samples come from: functions of one queue's `View`.

A reading yields label values and a value for each sample.  It yields nothing while what it needs is not known: a zero would
be a claim.  None of them costs time that grows with the queue.
"""

from qmail_exporter.readings.view import Distribution, Reading, Sample, Value, View, views

__all__ = ["Distribution", "Reading", "Sample", "Value", "View", "views"]

"""What is done about an outage of the network: the states of `outage` fed, hosts probed, actions run."""

from qmail_exporter.hook.hook import REDELIVER, RESULTS, Hook, Record

__all__ = ["REDELIVER", "RESULTS", "Hook", "Record"]

"""What `qmail-exporter doctor` finds out about a host: what is there, what can be read as whom, and what is wrong.

It changes nothing, opens no message, and takes no lock.
"""

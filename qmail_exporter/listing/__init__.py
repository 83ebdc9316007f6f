"""What `qmail-exporter queue` shows: messages as their files and the log together tell of them, chosen, sorted and written.

Pure: envelopes, records and times in, text out.
"""

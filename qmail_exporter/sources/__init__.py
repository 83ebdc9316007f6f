"""The outside world, read: queue directories, inotify, logs, the host.

What is found comes out as values of `formats`; nothing here knows the model, and nothing here writes.
"""

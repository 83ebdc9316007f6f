"""What a flag is: what it takes, how help shows it, how environment and file set it, how a shell completes it.

What flags there are is said by the commands. `yaml` is imported when there is a file to read, and no sooner.
"""

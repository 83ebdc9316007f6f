"""What qmail writes, as values: bytes in, values out.

Everything below is pure: no clock, no file, no socket. Any bytes whatever give a value or a `FormatError`.
"""


class FormatError(ValueError):
    """The bytes are not of the format asked for; the message says what is wrong, without quoting hostile bytes raw."""

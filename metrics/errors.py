"""What can go wrong in `metrics`: one root, its text is one line for the user."""


class MetricsError(Exception):
    """Images, a table or an encoder cannot be used as asked."""

"""Errors that are the user's to fix. The command line prints their message without a traceback."""


class UsageError(ValueError):
    """Input that breaks a rule; the message states the rule, what arrived and the likely fix."""


class ConfigError(UsageError):
    """A config key is missing, unknown or holds a value that the run cannot use."""


class DataError(UsageError):
    """A data set or one of its examples cannot be used; the message names the file or row."""


class StoreError(UsageError):
    """A feature store is missing, incomplete or not the one that the run needs."""


class NonFiniteError(UsageError):
    """Training met a loss or gradient that is not a finite number."""

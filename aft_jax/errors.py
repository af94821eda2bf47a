"""Why work ends early. The command line prints the message of each without a traceback."""


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


class StorageError(Exception):
    """What a run or an extraction writes could not be written, most often for want of space.

    No `UsageError`: a comparison or sweep does not go on to its next run, which would meet the same
    disk.
    """


class Preempted(SystemExit):
    """The machine is wanted back: work stopped at a place that the same command goes on from.

    No `Exception`, as `KeyboardInterrupt` is none, so that nothing takes it for a failure. A
    program of yours that lets it pass ends with the exit code that the command line has, too.
    """

    EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again later

    def __init__(self, message: str):
        super().__init__(self.EXIT_CODE)
        self.message = message

    def __str__(self) -> str:
        """The message."""
        return self.message

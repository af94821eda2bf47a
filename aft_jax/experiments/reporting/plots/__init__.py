"""The figures of a report, each a function from measured numbers."""

"""Methods under one protocol: their runs, the record of them, and the table."""

"""What a report says of each kind of run: its page, and the sections that several kinds share."""

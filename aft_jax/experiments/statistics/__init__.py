"""What the numbers of a comparison say: intervals, differences, verdicts."""

"""What a reader should see in each figure: sentences computed from its numbers."""

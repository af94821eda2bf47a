"""The page about one or many runs: what it measures, its sections, figures and captions."""

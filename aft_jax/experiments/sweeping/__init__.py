"""Beta, teacher sets and seeds: the plan, its trials, the choice on tune, the record."""

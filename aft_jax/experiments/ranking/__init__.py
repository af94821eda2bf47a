"""Which teachers, before any student is trained."""

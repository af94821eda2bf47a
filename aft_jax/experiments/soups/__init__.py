"""Averages of trained students."""

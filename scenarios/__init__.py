"""Scenario files, their loader and the flashcrowd command."""

"""The four steps that every door takes: desired, actual, difference, apply. Imports nothing from the doors."""

"""Splitting a module of a running product into a service of its own, and back."""

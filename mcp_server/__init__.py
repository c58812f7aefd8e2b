"""Tune, train and track models from an assistant."""

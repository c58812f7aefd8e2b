"""Fits estimators on prepared tables and scores them."""

"""training/estimators."""

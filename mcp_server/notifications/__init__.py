"""Telling people that a study has ended: by a webhook, by a command on the desktop."""

"""Celery: the app, its tasks, the dispatcher, and the command that runs them on one machine."""

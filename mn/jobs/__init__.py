"""Durable jobs: a journal of steps that survives the process, with undo, locks, progress and resume."""

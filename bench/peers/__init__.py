"""Processes that the measurements start: one engine or server each, so that CPU and memory are its own."""

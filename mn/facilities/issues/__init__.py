"""What is wrong in the fleet now, since when, and what helps."""

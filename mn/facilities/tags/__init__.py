"""System and user tags of resources."""

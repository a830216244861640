"""The command line: commands of the manual's form, one at a time or in an interactive shell."""

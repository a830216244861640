"""The checks, one file each; loading the facilities finds them all."""

"""The HTTP face: operations become routes; sessions, envelope, validation and job polling live here once."""

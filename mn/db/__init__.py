"""Database access: units of work as plain functions of a connection, schema shared by all rooms,
migrations.
"""

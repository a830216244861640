"""The query language: parse, plan, SQL. Knows tables, no facility."""

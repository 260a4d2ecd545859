"""The schema and every SQL statement, as text found by name."""

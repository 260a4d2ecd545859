"""PostgreSQL: the only importer of SQLAlchemy."""

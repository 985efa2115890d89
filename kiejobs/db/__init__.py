"""The database: the one truth about jobs. PostgreSQL in production, SQLite where nothing is installed."""

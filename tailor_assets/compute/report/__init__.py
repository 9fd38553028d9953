"""A video's results on one page: figures, tables and where they come from."""

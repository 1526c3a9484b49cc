"""The room of likes and comments: accepted into the log at once, applied to the database in batches later."""

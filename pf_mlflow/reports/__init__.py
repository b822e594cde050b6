"""What people read: a batch in the terminal, its tables, the pages of MLflow."""

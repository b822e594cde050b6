"""What is known of a line and of a batch, and nothing of promptflow or MLflow."""

"""What records look like in MLflow, and how a batch comes to look so exactly once."""

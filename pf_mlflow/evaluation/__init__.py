"""`pf-mlflow evaluate`, and what the nodes of an evaluation flow call."""

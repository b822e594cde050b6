"""The durable hand-off: records wait in one SQLite file until MLflow has them."""

"""From the spool, or from a finished batch, through the projection into MLflow."""

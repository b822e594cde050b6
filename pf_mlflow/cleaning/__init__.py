"""`pf-mlflow clean`: takes away what batches left on this machine and nobody needs any more."""

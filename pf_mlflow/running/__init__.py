"""`pf-mlflow run`: a batch that is checked, run, followed and summed up."""

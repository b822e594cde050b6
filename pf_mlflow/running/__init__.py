"""`pf-mlflow run`: a batch that is checked beforehand and told of afterwards."""

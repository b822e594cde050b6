"""`pf-mlflow init`: a flow of one's own gets child runs, and gives them back."""

"""Each source yields `LineRecord`s and knows no MLflow."""

"""Executes the lines of a promptflow batch many at once in this process, where promptflow would start four others.

The batch stays promptflow's own: its batch engine reads the data, keeps the run record and sums up. Only the step in
between, which executes the lines, is exchanged. The modules import promptflow's private names, and only
`pf-mlflow run` imports them.
"""

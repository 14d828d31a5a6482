"""Takes the place of the package `rfc3987_syntax` in the hubs and processes of the tests.

`jsonschema`, which JupyterHub's events use, imports the package if it can. Building its grammar takes about three
seconds of processor time at every import of JupyterHub, and no schema of JupyterHub uses the format.
"""

raise ImportError("not needed in tests")

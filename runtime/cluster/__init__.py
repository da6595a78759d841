"""A node of a cluster: a worker under a real Dask scheduler."""

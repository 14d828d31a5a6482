"""Measures ProfileSpawner beside plain KubeSpawner: `make bench`, or `python -m benchmarks --help`.

Rules: compared sides run interleaved in one run (A B A B ...), at least five times; headlines are ratios of
medians; both sides are first shown to do the same; the load generator and the API server are other processes than the
hub, or nothing but the measured call is inside the clock.
"""

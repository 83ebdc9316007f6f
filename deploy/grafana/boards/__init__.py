"""The dashboards of `deploy/grafana/dashboards`, in Python: `make dashboards` writes them.

`fleet`, `queue`, `destinations` and `outage` hold a dashboard each: its rows, its panels, their queries. `board` is what all
dashboards share (variables, annotations, links), `panel` the kinds of panels, and `query` the queries' labels.
"""

"""The dashboards of `deploy/grafana/dashboards`, in Python: `make dashboards` writes them.

`fleet`, `queue` (with the rows of `flow`), `destinations` (with `reasons`) and `outage` (with `exporter`) hold a dashboard each:
its rows, its panels, their queries. `shared` has panels that stand on several, `look` their colours and thresholds.

`board` is what all dashboards have in common (variables, annotations, links), `panel` the kinds of panels, and `query` the labels
by which a query selects.
"""

"""Prefect flows: one per job (ingest, retrain, forecast, upkeep), `pipeline`: the first three, and how they are served.

Every flow takes the path of a pipeline file and plain values, so that it can be scheduled; between tasks go paths
and versions, never frames or models. The folder `flows/` has one import name, `rnnforecast.flows`.
"""

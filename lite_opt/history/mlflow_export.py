"""A history in MLflow: a run a comparison."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lite_opt.history.entry import Entry
from py_runner.errors import DataError, UsageError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["export"]

_TAG = "paddle_edge.id"
_PAGE = 1000  # runs that are asked for at once
_LETTERS = 250  # of a name, and fewer than a value may have


def export(entries: Sequence[Entry], uri: str, *, experiment: str = "paddle-edge") -> int:
    """Log each comparison that is not there yet as a run of the experiment, and return how many
    were: what was judged as parameters, the rest as tags and metrics.

    Args:
        uri: of a tracking server ("http://..."), or of a local store ("sqlite:///mlflow.db").

    Raises UsageError where the client is not installed, DataError where the store refuses.
    """
    with _quiet():
        try:
            from mlflow import MlflowClient
            from mlflow.entities import ViewType
        except ImportError:
            raise UsageError(
                "MLflow's client is not installed: pip install 'paddle-edge[mlflow]'"
            ) from None
        try:
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            found = client.get_experiment_by_name(experiment)
            place = found.experiment_id if found else client.create_experiment(experiment)
            there = set(_ids(client, place, ViewType.ALL))
            new = [entry for entry in entries if entry.id not in there]
            for entry in new:
                _log(client, place, entry)
        # What a store raises is of many libraries: HTTP's, SQLAlchemy's, its own.
        except Exception as error:
            raise DataError(f"MLflow at {uri}: {' '.join(str(error).split())[:300]}") from None
    return len(new)


def _ids(client: MlflowClient, experiment: str, view: Any) -> Iterator[str]:
    """The ids of comparisons that are there, also of runs that were deleted."""
    token = None
    while True:
        runs = client.search_runs([experiment], "", view, _PAGE, page_token=token)
        yield from (run.data.tags[_TAG] for run in runs if _TAG in run.data.tags)
        token = runs.token
        if not token:
            return


def _log(client: MlflowClient, experiment: str, entry: Entry) -> None:
    from mlflow.entities import Metric, Param, RunTag

    when = int(datetime.fromisoformat(entry.time.replace("Z", "+00:00")).timestamp() * 1000)
    name = f"{entry.model} {entry.recipe}, {entry.engine} on {entry.device}"
    params = {
        n: str(getattr(entry, n))
        for n in ("model", "recipe", "engine", "engine_version", "device", "machine", "threads",
                  "samples")
    }  # fmt: skip
    tags = {
        n: str(getattr(entry, n) or "")
        for n in ("model_sha256", "bundle_sha256", "data_sha256", "verdict", "why")
    }
    if entry.revision:
        tags["mlflow.source.git.commit"] = entry.revision
    run = client.create_run(experiment, start_time=when, run_name=name[:_LETTERS])
    client.log_batch(
        run.info.run_id,
        [Metric(_key(n), value, when, 0) for n, value in entry.metrics.items()],
        [Param(n, value[:_LETTERS]) for n, value in params.items()],
        [RunTag(n, value[:_LETTERS]) for n, value in tags.items()],
    )
    # Last: a run without it is half written, and is written again by the next call.
    client.set_tag(run.info.run_id, _TAG, entry.id)
    client.set_terminated(run.info.run_id, "FAILED" if entry.verdict == "failed" else "FINISHED",
                          end_time=when)  # fmt: skip


def _key(name: str) -> str:
    """A metric's name, of the letters that MLflow allows."""
    return re.sub(r"[^\w./ -]", "_", name, flags=re.ASCII)[:_LETTERS]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what MLflow and its libraries tell of their own tables."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)

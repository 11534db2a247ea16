"""The storage of a sweep: one Optuna study a variant.

Optuna: Akiba et al. (2019), arXiv:1907.10902. All studies of a sweep are in one storage: SWEEP/study.db (SQLite), or a server's
database by its URL. Each study keeps what makes the sweep this one (`Plan.facts`), so that another one is not mixed with it.
"""

from __future__ import annotations

import json
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.runs.settings import listed
from clipedu.studies.sweep.plan import Plan
from clipedu.studies.sweep.space import Axis, Values
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    import optuna

DATABASE, PLAN = "study.db", "plan"
BEAT = 30  # seconds between two signs of life of a trial
GRACE = 120  # seconds without one after which a trial of another machine counts as killed
MOST_RETRIES = 3

log = logging.getLogger("clipedu")


def import_optuna() -> Any:
    """Import Optuna, without its log lines of each trial.

    Raises:
        ClipeduError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ClipeduError(f'a sweep needs Optuna ({error}). Install it with: pip install "clipedu[sweep]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_storage(folder: Path, url: str | None = None) -> Any:
    """Open the storage of a sweep; a new one is made.

    Args:
        folder: of the sweep.
        url: of a database, as SQLAlchemy takes it ("postgresql://user@host/name"); None is `DATABASE` in the folder.
    Raises:
        ClipeduError: it cannot be opened.
    """
    optuna = import_optuna()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    url = url or f"sqlite:///{(folder / DATABASE).resolve()}"
    shown = "that URL"
    try:
        shown = make_url(url).render_as_string(hide_password=True)
        options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        with quiet():
            again = optuna.storages.RetryHeartbeatStaleTrialCallback(MOST_RETRIES, inherit_intermediate_values=True)
            return optuna.storages.RDBStorage(
                url, options, heartbeat_interval=BEAT, grace_period=GRACE, heartbeat_stale_trial_callback=again
            )
    except (SQLAlchemyError, ImportError, RuntimeError, ValueError, OSError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClipeduError(
            f"the storage {shown} cannot be opened: {what}. Give a database's URL, such as sqlite:////home/me/study.db or "
            "postgresql://user@host/name"
        ) from None


def open_studies(storage: Any, plan: Plan, name: str) -> dict[str, optuna.Study]:
    """Return the study of each variant; new ones are made.

    For a grid all their trials are enqueued.

    Args:
        storage: as `open_storage` returns it.
        plan: of the sweep.
        name: of the sweep in the storage.
    Raises:
        ClipeduError: the storage holds a sweep of this name that tries something else.
    """
    optuna = import_optuna()
    facts, studies = plan.facts(), {}
    there = [one for one in optuna.get_all_study_names(storage) if one.startswith(f"{name}/")]
    for one in there:
        before = optuna.load_study(study_name=one, storage=storage).user_attrs.get(PLAN)
        if before is not None and before != facts:
            raise ClipeduError(
                f"{name} holds a sweep that tries something else: {listed(differing_facts(before, facts))}. Give another --folder"
            )
    for variant in plan.variant_settings():
        study = optuna.create_study(
            storage=storage,
            study_name=f"{name}/{variant}",
            direction="maximize",
            load_if_exists=True,
            pruner=_pruner(plan),
        )
        if study.user_attrs.get(PLAN) is None:
            study.set_user_attr(PLAN, facts)
        studies[variant] = study
        if plan.sampler == "grid":
            for point in plan.points():
                study.enqueue_trial({key: as_choice(value) for key, value in point.items()}, skip_if_exists=True)
    return studies


def differing_facts(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two sweeps: name -> (before, now)."""
    return {key: (before.get(key), now.get(key)) for key in {**before, **now} if before.get(key) != now.get(key)}


def next_sampler(plan: Plan, number: int) -> Any:
    """Return the sampler of trial `number`.

    What it draws depends on the plan, the number and the trials so far: so a sweep that goes on does not draw the same again.
    """
    optuna = import_optuna()
    seed = int(np.random.SeedSequence((plan.sampler_seed, number)).generate_state(1)[0])  # neighbours are unrelated
    if plan.sampler != "tpe":
        return optuna.samplers.RandomSampler(seed=seed)
    with quiet():
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def suggest(trial: Any, axes: Mapping[str, Axis]) -> dict[str, Any]:
    """Return the settings of a trial, by name.

    Args:
        trial: of Optuna.
        axes: what is varied.
    """
    settings: dict[str, Any] = {}
    for name, one in axes.items():
        if isinstance(one, Values):
            choices = [as_choice(value) for value in one.values]
            settings[name] = one.values[choices.index(trial.suggest_categorical(name, choices))]
        elif one.whole:
            settings[name] = trial.suggest_int(name, int(one.low), int(one.high), log=one.log)
        else:
            settings[name] = trial.suggest_float(name, one.low, one.high, log=one.log)
    return settings


def as_choice(value: Any) -> Any:
    """Return a value as Optuna can keep it: lists and objects as JSON."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value)


@contextmanager
def alive(storage: Any, trial_id: int) -> Iterator[None]:
    """Record signs of life of a trial while the block runs.

    So no other machine takes it for killed.
    """
    ended = threading.Event()

    def beat() -> None:
        while True:
            try:
                storage.record_heartbeat(trial_id)
            except Exception as error:  # noqa: BLE001  the database may be busy; the next one counts as well
                log.debug("no sign of life of trial %s: %s", trial_id, error)
            if ended.wait(BEAT):
                return

    thread = threading.Thread(target=beat, name="clipedu-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _pruner(plan: Plan) -> Any:
    optuna = import_optuna()
    if plan.pruner == "median":
        return optuna.pruners.MedianPruner()
    if plan.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings of Optuna that are of no use here.

    They say that a part of it is experimental, and that signs of life are recorded by us.
    """
    with warnings.catch_warnings():
        for words in (".*experimental.*", "Heartbeat of storage is supposed"):
            warnings.filterwarnings("ignore", message=words)
        yield

import pytest

from clipedu.config.course import LOSSES, OPTIMIZERS, course_table
from tests.helpers.fake_run import fake_run


@pytest.fixture(scope="session")
def grid():
    """Averages that fall from cell to cell in the course's order of averages: rank correlation exactly 1."""
    order = course_table().sort_values("average", ascending=False)
    place = {(row.loss, row.optimizer): n for n, row in enumerate(order.itertuples())}
    return [
        fake_run(f"{o}-{k}", loss=k, optimizer=o, steps=4, rows=3, average=90.0 - 5 * place[k, o])
        for o in OPTIMIZERS
        for k in LOSSES
    ]


@pytest.fixture(scope="module", autouse=True)
def scored_on_few(few_scenes):
    """All runs of this folder are scored on few scenes."""

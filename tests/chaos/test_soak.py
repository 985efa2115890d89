"""The soak, short: half a minute of faults, then the whole verdict. `make chaos` runs the long one."""

import pytest

from tests.acceptance.stage import has_redis
from tests.chaos.soak import Plan, soak
from tests.chaos.verdict import report
from tests.support import missing, postgresql_answers


@pytest.mark.parametrize(("database", "jobs"), [("postgresql", 48)])
def test_a_minute_of_chaos_costs_neither_a_result_nor_a_second_payment(tmp_path, capsys, database, jobs):
    """Kills, stops, flushes and outages; judged by Kie's own ledger, rows, stored bytes and what producers were told."""
    if not has_redis():
        missing("redis-server on PATH")
    if database == "postgresql" and not postgresql_answers():
        missing("PostgreSQL on 127.0.0.1:5432")
    plan = Plan(faults_s=36, jobs=jobs, seed=20, database=database, aloud=False)
    facts, found = soak(plan, tmp_path)
    with capsys.disabled():
        print(f"\nseed {plan.seed}\n{report(facts, found)}")
    assert not any(found.values()), report(facts, found)

"""What `scripts/scale.py` does with a hundred terabytes, done with a few."""

import pytest

from scripts import scale

TERABYTES, FILES, SHARDS = 0.5, 200, 1200


class Pipe:
    """What a process of its own would send."""

    def send(self, steps):
        self.steps = steps


def test_a_build_is_planned_and_published(tmp_path):
    steps = scale.Steps()
    scale.make_sources(FILES, TERABYTES)
    plan, handed = scale.plan_build(steps, shards=SHARDS, directory=tmp_path)
    assert plan.table.nbytes == pytest.approx(TERABYTES * 1e12, rel=1e-3)
    assert len(plan.table.parts) == FILES // 2
    assert 3 * plan.task_count == pytest.approx(SHARDS, rel=0.01)
    assert handed.load() == plan
    manifest = scale.publish(steps, plan, tmp_path)
    assert sum(map(manifest.rows, manifest.splits)) == plan.table.rows
    assert sum(len(shards) for shards in manifest.splits.values()) == 3 * plan.task_count
    pipe = Pipe()
    scale._work(handed, pipe)
    found = "\n".join(scale.report([*steps, *pipe.steps], scale.count(plan, 10, 100)))
    assert f"| headers | {FILES} requests;" in found
    assert f"| tasks | {plan.task_count:,}; {-(-plan.task_count // 10)} waves of 10 workers |" in found
    assert found.count("\n") == 2 + len(steps) + len(pipe.steps) + 2 + 8
    assert all(step.seconds >= 0 for step in steps)


def test_shards_are_opened_and_read():
    pipe = Pipe()
    scale._load(40, pipe)
    made = {step.name: step.made for step in pipe.steps}
    assert made["loaders.open"] == f"{40 * scale.SHARD_ROWS:,} rows"
    assert made["first batch of an epoch"] == "256 rows of all shards"
    assert "new loader at this state" in made

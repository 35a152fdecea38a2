"""How far a training is, from its first worker to its driver."""

from linkner_ray.logs.progress import Step
from linkner_ray.storage import Folder
from linkner_ray.training import progress


def test_the_driver_sees_what_the_worker_said_last_not_more_often_than_at_intervals(
    tmp_path, monkeypatch
):
    now = [10.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    run, seen = Folder.at(str(tmp_path)), Step("steps", 90)
    tell = progress.Told(run)

    progress.look(run, seen)
    assert seen.done is None
    tell(30, "epoch 1 of 3")
    tell(31, "epoch 1 of 3, loss 0.5")
    progress.look(run, seen)
    assert (seen.done, seen.note) == (30, "epoch 1 of 3")
    now[0] += progress.INTERVAL_S
    tell(45, "epoch 2 of 3, loss 0.4")
    progress.look(run, seen)
    assert (seen.done, seen.note) == (45, "epoch 2 of 3, loss 0.4")

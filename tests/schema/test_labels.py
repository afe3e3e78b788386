"""Labels of options: a run is named by its values, whatever it was composed from."""

import pytest

from beans_exp.schema.labels import labeled
from tests.conftest import Composed


@pytest.mark.parametrize(
    ("overrides", "group", "label"),
    [
        (["reg=l2"], "reg", "l2"),
        (["reg.l2=0.01"], "reg", "l2"),
        (["reg=l2", "reg.l2=0.1"], "reg", "l2=0.1"),
        (["reg=augment", "reg.augment=[zoom]"], "reg", "augment=[zoom]"),
        (["finetune=top2", "finetune.blocks=5"], "finetune", "blocks=5"),
        (["finetune=top2", "finetune.blocks=3"], "finetune", "top3"),
        (["kernel=k3", "kernel.size=5"], "kernel", "k5"),
        (["trainer=quick", "trainer.epochs=1"], "trainer", "epochs=1,batch_size=32"),
        (["reg.name=mine", "reg.l2=0.1"], "reg", "mine"),
    ],
)
def test_a_label_follows_the_values(overrides: list[str], group: str, label: str, composed: Composed) -> None:
    assert getattr(labeled(composed(*overrides)), group).name == label

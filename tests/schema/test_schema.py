"""The configuration: every shipped option composes, every rule has its message, and points reduce to what they mean."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.types import RunMode

from beans_exp import schema
from beans_exp.errors import ConfigError
from beans_exp.metrics import OBJECTIVES
from beans_exp.schema import CONF, Config, ModelConfig, check, inert_options, reduce

Composed = Callable[..., Config]
GROUPS = ("model", "reg", "kernel", "finetune", "data", "trainer", "tracking")
OPTIONS = [file for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]
ROWS = sorted((CONF / "study").glob("*.yaml"))
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))
BESIDE = {
    "folder": ["data.data_dir=images"],
    "table": ["data.file=leaves.csv"],
    "tfds": ["data.dataset=mnist:3.0.1"],
    "keras": ["model.arch=ResNet101"],
    "inception": ["model.weights=base.weights.h5"],
}


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_every_option_composes_under_its_own_name(file: Path, composed: Composed) -> None:
    config = composed(f"{file.parent.name}={file.stem}", *BESIDE.get(file.stem, []))
    assert getattr(config, file.parent.name).name == file.stem


@pytest.mark.parametrize("file", ROWS, ids=lambda file: file.stem)
def test_every_row_of_the_study_composes_with_its_figures(
    file: Path, composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEANS_EXP_INCEPTION_WEIGHTS", "base.weights.h5")
    config = check(composed(f"study={file.stem}"))
    assert config.study is not None
    assert config.study.name == file.stem
    assert set(config.study.reported) <= set(OBJECTIVES)
    with (CONF / "study" / "reported_epochs.csv").open() as stream:
        epochs = [row for row in csv.DictReader(stream) if row["row"] == file.stem]
    if epochs:
        assert config.study.reported["train/accuracy"] == float(epochs[-1]["train_accuracy"])
        assert config.study.reported["val/accuracy"] == float(epochs[-1]["val_accuracy"])


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_every_experiment_is_a_grid_that_opens_with_claim_cost_and_command(file: Path) -> None:
    package, claim, cost, command = file.read_text().splitlines()[:4]
    assert package == "# @package _global_"
    assert claim.startswith("# ")
    assert cost.startswith("# Cost: ")
    assert command == f"# Command: python -m beans_exp experiment={file.stem}"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"experiment={file.stem}"], return_hydra_config=True)
    assert config.hydra.mode == RunMode.MULTIRUN
    assert config.hydra.sweeper.params


def test_the_depth_is_searched_and_plotted_alone() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        search, curve = (
            compose("config", [f"experiment={name}"], return_hydra_config=True).hydra.sweeper
            for name in ("search_depth", "depth_curve")
        )
    assert search.params == {"finetune.blocks": "range(0,13)"}
    assert curve.params == {**search.params, "seed": "range(3)"}
    assert (search.n_trials, search.trial_seconds) == (13, None)
    assert search.sampler._target_.endswith("GridSampler") and search.pruner._target_.endswith("NopPruner")


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONF)))
def test_every_file_opens_with_a_comment_for_the_help(file: Path) -> None:
    assert not isinstance(yaml.safe_load(file.stem), bool), "YAML reads this name as true or false"
    if file.parent not in (CONF, CONF / "hydra" / "help"):
        first = next(line for line in file.read_text().splitlines() if "@package" not in line)
        assert first.startswith("# "), "the help shows the comment that opens the file"


def test_the_shipped_options_are_the_contract() -> None:
    shipped = {group: {file.stem for file in (CONF / group).glob("*.yaml")} for group in GROUPS}
    applications = {"keras", "resnet50", "efficientnetv2b0", "mobilenetv3small", "convnexttiny", "densenet121"}
    assert shipped["model"] == {"lenet", "lenet5", "inception", "googlenet"} | applications
    assert shipped["reg"] == {"none", "l1", "l2", "l1_l2", "dropout", "augment", "label_smoothing", "aux"}
    assert shipped["kernel"] == {"k5", "k3", "k7", "narrow", "wide", "factorized"}
    assert shipped["finetune"] == {"none", "top2", "top3", "top6"}
    assert shipped["data"] == {"beans", "synthetic", "folder", "table", "tfds"}
    assert shipped["trainer"] == {"study", "quick"}
    assert shipped["tracking"] == {"local", "server"}


def test_the_defaults_follow_the_protocol_of_the_report(composed: Composed) -> None:
    config = check(composed())
    assert (config.model.name, config.data.name, config.data.image_size) == ("lenet", "beans", 299)
    trainer = config.trainer
    assert (trainer.epochs, trainer.batch_size, trainer.optimizer, trainer.learning_rate) == (20, 64, "adam", 1e-3)
    assert (trainer.select, trainer.patience, trainer.precision) == ("last", None, "float32")
    assert (config.finetune.epochs, config.finetune.learning_rate) == (6, 1e-5)


INVALID = [
    (["+typo=1"], ["typo", "not a key"]),
    (["+reg.l3=1"], ["reg.l3", "known: name, l1"]),
    (["+reg.dropuot=1"], ["reg.dropuot", "did you mean dropout"]),
    (["~reg"], ["reg was removed"]),
    (["reg.dropout=1.5"], ["reg.dropout=1.5", "below 1"]),
    (["reg.l1=-1"], ["reg.l1=-1.0", "0 or more"]),
    (["reg.l2=inf"], ["reg.l2=inf"]),
    (["reg.label_smoothing=1"], ["reg.label_smoothing", "below 1"]),
    (["reg.augment=[flop]"], ["reg.augment=flop", "did you mean flip"]),
    (["reg.augment=[flip,flip]"], ["reg.augment=[flip,flip]", "without duplicates"]),
    (["reg.aux_weight=2"], ["reg.aux_weight=2.0", "between 0 and 1"]),
    (["model.name=resnet"], ["model.name=resnet", "lenet5"]),
    (["model=inception", "model.top_block=mixed11"], ["model.top_block=mixed11", "mixed10"]),
    (["kernel.size=0"], ["kernel.size=0", "1 or more"]),
    (["kernel.size=200"], ["data.image_size=299", "kernel.size=200"]),
    (["kernel.filters=[6,16]"], ["kernel.filters=[6,16]", "three"]),
    (["kernel=factorized", "kernel.size=3"], ["kernel.size=3", "factorized"]),
    (["model=inception", "finetune.blocks=13"], ["finetune.blocks=13", "between 0 and 12"]),
    (["finetune.epochs=0"], ["finetune.epochs=0", "1 or more"]),
    (["finetune.learning_rate=0"], ["finetune.learning_rate=0.0", "above 0"]),
    (["finetune.schedule=linear"], ["finetune.schedule=linear", "cosine"]),
    (["data.name=cifar"], ["data.name=cifar", "synthetic"]),
    (["data.image_size=4"], ["data.image_size=4"]),
    (["data.train_fraction=0"], ["data.train_fraction=0.0", "above 0"]),
    (["data=folder", "data.data_dir=null"], ["data.data_dir=null", "validation"]),
    (["data=synthetic", "data.test_images=2"], ["data.test_images=2", "3 or more"]),
    (["data=synthetic", "data.draw_seed=null"], ["data.draw_seed=null"]),
    (["trainer.epochs=-1"], ["trainer.epochs=-1"]),
    (["trainer.epochs=0"], ["trainer.epochs=0", "second stage"]),
    (["trainer.batch_size=0"], ["trainer.batch_size=0"]),
    (["trainer.optimizer=adm"], ["trainer.optimizer=adm", "did you mean adam"]),
    (["trainer.learning_rate=nan"], ["trainer.learning_rate=nan", "above 0"]),
    (["trainer.select=first"], ["trainer.select=first", "best"]),
    (["trainer.patience=0"], ["trainer.patience=0"]),
    (["trainer.precision=float16"], ["trainer.precision=float16", "bfloat16"]),
    (["trainer.microbatch=128"], ["trainer.microbatch=128", "trainer.batch_size=64"]),
    (["tracking.save_model=some"], ["tracking.save_model=some", "none"]),
    (["tracking.save_model=best"], ["tracking.save_model=best", "single run"]),
    (["tracking.experiment=' '"], ["tracking.experiment"]),
    (["objective.name=val/acc"], ["objective.name=val/acc", "did you mean val/accuracy"]),
    (["objective.direction=minimize"], ["objective.direction=minimize", "val/accuracy"]),
    (["objective.name={a: 1}"], ["objective.name=", "a name, or a list of names"]),
    (
        ["objective.name=time/ms_per_image", "objective.direction=minimize", "trainer.test=false"],
        ["trainer.test=false"],
    ),
    (["tracking.uri=sqlite://"], ["tracking.uri=sqlite://", "sqlite:///"]),
    (["tracking.uri=file:mlruns"], ["tracking.uri=file:mlruns", "http://"]),
    (["tracking.uri=http://joe:planted@127.0.0.1:5000"], ["tracking.uri", "MLFLOW_TRACKING_PASSWORD"]),
    (["reg.l1=${nope}"], ["nope", "not found"]),
    (["trainer.patience=20"], ["trainer.patience=20", "no stage has more epochs"]),
    (["sweep.jobs=3"], ["sweep.*", "not by hand"]),
    (["model=googlenet", "reg.dropout=0.4"], ["reg.dropout=0.4", "model=googlenet"]),
    (
        ["model=inception", "finetune=top2", "trainer.epochs=0", "trainer.learning_rate=1"],
        ["trainer.learning_rate=1.0"],
    ),
    (["model=inception", "features.cache=off", "features.max_gb=1"], ["features.max_gb=1.0", "features.cache=off"]),
    (["objective.direction=up"], ["objective.direction=up", "maximize"]),
    (["objective.name=[val/accuracy,val/loss]"], ["objective.direction=maximize", "one for each"]),
    (["objective.name=test/accuracy", "trainer.test=false"], ["objective.name=test/accuracy", "trainer.test=false"]),
    (["features.cache=on"], ["features.cache=on", "auto"]),
    (["features.max_gb=0"], ["features.max_gb=0.0"]),
    (["confirm.seeds=0"], ["confirm.seeds=0"]),
    (["seed=-1"], ["seed=-1", "4294967295"]),
    (["if_exists=skip"], ["if_exists=skip", "rerun"]),
    # an option without effect names both sides
    (["finetune=top2"], ["finetune.blocks=2", "model=lenet"]),
    (["finetune.learning_rate=1e-3"], ["finetune.learning_rate=0.001", "model=lenet"]),
    (["model=inception", "finetune.learning_rate=1e-3"], ["finetune.learning_rate", "finetune.blocks=0"]),
    (["model=inception", "kernel=k3"], ["kernel.size=3", "model=inception"]),
    (["model=lenet5", "kernel=wide"], ["kernel.filters=[12,32,240]", "model=lenet5"]),
    (["model=lenet5", "kernel=factorized"], ["kernel.factorized=true", "model=lenet5"]),
    (["model=googlenet", "kernel=k7"], ["kernel.size=7", "model=googlenet"]),
    (["reg=aux"], ["reg.aux_weight=0.3", "model=lenet"]),
    (["model=inception", "reg=aux"], ["reg.aux_weight=0.3", "finetune.blocks=0", "4 blocks"]),
    (["model=inception", "reg=aux", "finetune=top3"], ["finetune.blocks=3", "4 blocks"]),
    (["model=inception", "reg=aux", "model.top_block=mixed6"], ["reg.aux_weight=0.3", "mixed6", "below mixed7"]),
    (["model=inception", "model.weights=null", "finetune=top2"], ["finetune.blocks=2", "model.weights=null"]),
    (["model.weights=imagenet"], ["model.weights=imagenet", "model=lenet"]),
    (["model.top_block=mixed3"], ["model.top_block=mixed3", "model=lenet"]),
    (["data.draw_seed=4"], ["data.draw_seed=4", "data=beans"]),
    (["data=synthetic", "data.data_dir=images"], ["data.data_dir=images", "data=synthetic"]),
    (["features.cache=off"], ["features.cache=off", "model=lenet"]),
    (["confirm.top=1"], ["confirm.top=1", "search"]),
    (["plan=true"], ["plan=true", "-m"]),
    (["sweep.id=mine"], ["sweep.*", "not by hand"]),
    (["model=googlenet", "data=synthetic", "data.image_size=64", "reg=aux"], ["data.image_size=64", "65 or more"]),
    (["trainer.microbatch=64"], ["trainer.microbatch=64", "trainer.batch_size"]),
    # contradictions between groups
    (["model=inception", "model.top_block=mixed4", "finetune.blocks=7"], ["finetune.blocks=7", "between 0 and 6"]),
    (["model=inception", "data=synthetic", "data.image_size=64"], ["data.image_size=64", "75 or more"]),
]


@pytest.mark.parametrize(("overrides", "words"), INVALID, ids=lambda value: " ".join(value))
def test_a_broken_rule_names_key_value_and_rule(overrides: list[str], words: list[str]) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides, return_hydra_config=True)
    with pytest.raises(ConfigError) as error:
        check(schema.to_config(config))
    message = str(error.value)
    assert "\n" not in message
    assert "planted" not in message, "a password"
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "overrides",
    [
        ["reg=label_smoothing", "kernel=factorized", "trainer.microbatch=16"],
        ["reg=augment", "reg.l1=0.1", "reg.dropout=0.5"],
        ["model=lenet5", "reg=l1_l2", "kernel=k5"],
        ["objective.name=[val/accuracy,gap/accuracy]", "objective.direction=[maximize,minimize]"],
        ["data=synthetic", "data.image_size=32"],
        ["reg=none", "reg.l2=0.01"],
    ],
    ids=" ".join,
)
def test_valid_combinations_are_accepted(overrides: list[str], composed: Composed) -> None:
    check(composed(*overrides))


@pytest.mark.parametrize(
    "overrides", [["model=googlenet", "reg=aux"], ["model=inception", "model.weights=null", "reg=aux"]]
)
def test_auxiliary_classifiers_need_trained_layers_below_them(overrides: list[str], composed: Composed) -> None:
    assert not list(inert_options(composed(*overrides)))


@pytest.mark.parametrize(("top_block", "deepest"), [("mixed10", 12), ("mixed4", 6), ("mixed0", 2)])
def test_the_stem_counts_as_the_last_block(top_block: str, deepest: int, composed: Composed) -> None:
    words = ["model=inception", "model.weights=base", f"model.top_block={top_block}"]
    check(composed(*words, f"finetune.blocks={deepest}"))
    with pytest.raises(ConfigError, match=f"finetune.blocks={deepest + 1}: must be between 0 and {deepest}"):
        check(composed(*words, f"finetune.blocks={deepest + 1}"))


def test_reducing_drops_the_options_without_effect(composed: Composed) -> None:
    plain = composed("reg=l2")
    given = composed("reg=l2", "finetune=top2", "finetune.epochs=9", "features.cache=off")
    reduced, dropped = reduce(given)
    assert {option.key for option in dropped} == {"finetune.blocks", "finetune.epochs", "features.cache"}
    assert (reduced.finetune.blocks, reduced.finetune.epochs, reduced.features.cache) == (0, 6, "auto")
    assert reduced.reg == plain.reg
    assert reduce(reduced) == (reduced, [])


def test_inception_weights_default_to_the_environment(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEANS_EXP_INCEPTION_WEIGHTS", raising=False)
    assert composed("model=inception").model == ModelConfig("inception", "imagenet", "mixed10")
    monkeypatch.setenv("BEANS_EXP_INCEPTION_WEIGHTS", "base.weights.h5")
    assert composed("model=inception").model.weights == "base.weights.h5"

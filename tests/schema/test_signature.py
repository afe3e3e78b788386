"""Models of the user's own: signatures read without running the code, options, and the identity of the source."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beans_exp.errors import ConfigError
from beans_exp.fingerprint import fingerprint
from beans_exp.schema import Config, DataConfig, KernelConfig, ModelConfig, RegConfig, check, reduce
from beans_exp.schema.python_source import use_folder
from beans_exp.tracking.params import flat_params
from tests.conftest import SOURCE

NET = """
import helpers
raise RuntimeError("a signature is read without importing the module")

def net(image_size, classes, *, dropout: float = 0.0, width: int = 16, act: "str | None" = None,
        sizes: list[int] = [3]):
    pass
"""

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write modules into the folder of the command line."""
    use_folder(tmp_path)

    def files(**modules: str) -> None:
        for name, text in modules.items():
            file = tmp_path / f"{name.replace('_of_', '/')}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        use_folder(tmp_path)

    yield files
    use_folder(None)


def _config(model: ModelConfig, **groups: object) -> Config:
    return Config(model=model, data=DataConfig(name="folder", data_dir="images", image_size=64), **groups)  # type: ignore[arg-type]


def test_options_are_filled_and_typed_by_the_signature(write: Write) -> None:
    write(my_net=NET)
    assert ModelConfig("n", build="my_net.net").options == {"width": 16, "act": None, "sizes": [3]}
    given = ModelConfig("n", build="my_net.net", options={"width": "32", "sizes": [1, 2]})
    assert given.options == {"width": 32, "act": None, "sizes": [1, 2]}
    assert "my_net" not in sys.modules
    params = flat_params(_config(given))
    assert (params["model.options.width"], params["model.build"]) == ("32", "my_net.net")
    assert params["model.source"] == given.source


def test_a_required_option_must_be_given(write: Write) -> None:
    write(my_net="def net(image_size, classes, width): pass")
    with pytest.raises(ConfigError, match=r"model\.options\.width: must be given"):
        ModelConfig("n", build="my_net.net")
    assert ModelConfig("n", build="my_net.net", options={"width": "x"}).options == {"width": "x"}


WRONG = [
    ("def net(image_size, classes, **more): pass", r"must be a function whose parameters all have names"),
    ("def net(image_size, classes, *more): pass", r"must be a function whose parameters all have names"),
    ("def net(classes): pass", "a parameter image_size"),
    ("def net(image_size): pass", "a parameter classes, or model.backbone=true"),
    ("net = 3", "must be a function, and .*my_net.py defines none of the name net"),
    ("def net(image_size, classes, width=len('ab')): pass", "the default of width must be a literal"),
    ("def net(image_size, classes:\n", "my_net.py, line 1"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_an_unsuitable_function_is_refused(text: str, message: str, write: Write) -> None:
    write(my_net=text)
    with pytest.raises(ConfigError, match=f"model.build=my_net.net: .*{message}"):
        ModelConfig("n", build="my_net.net")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"build": "nowhere.net"}, "model.build=nowhere.net: must be MODULE.FUNCTION"),
        ({"build": "my_net"}, "model.build=my_net: must be MODULE.FUNCTION"),
        ({"build": "my_net.net", "name": "lenet"}, "model.name=lenet: must be a name of its own"),
        ({"build": "my_net.net", "backbone": True}, "model.build=my_net.net: must be a function with a parameter cl"),
        ({"build": "my_net.net", "options": {"width": "wide"}}, "model.options.width=wide: must be int"),
        ({"name": "lenet", "backbone": True}, "model.backbone=true"),
    ],
)
def test_a_broken_description_names_key_value_and_rule(options: dict[str, object], message: str, write: Write) -> None:
    write(my_net=NET)
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**{"name": "n"} | options)  # type: ignore[arg-type]


INERT: list[tuple[dict[str, object], str]] = [
    ({"kernel": KernelConfig(size=3)}, "kernel.size=3 has no effect: model=n does not take kernel_size"),
    ({"reg": RegConfig(aux_weight=0.3)}, "reg.aux_weight=0.3 has no effect: model=n has no auxiliary classifiers"),
    ({"reg": RegConfig(dropout=0.5)}, "reg.dropout=0.5 has no effect: model=n does not take dropout"),
]


@pytest.mark.parametrize(("groups", "message"), INERT)
def test_what_a_function_does_not_take_is_refused(groups: dict[str, object], message: str, write: Write) -> None:
    write(my_net="def net(image_size, classes): pass")
    with pytest.raises(ConfigError, match=message):
        check(_config(ModelConfig("n", build="my_net.net"), **groups))


def test_what_a_function_takes_and_what_acts_from_outside_is_accepted(write: Write) -> None:
    write(my_net="def net(image_size, classes, dropout=0.0, kernel_size=5, aux_weight=0.0): pass")
    reg = RegConfig(dropout=0.5, aux_weight=0.3, l1=0.1, l2=0.1, label_smoothing=0.1, augment=["flip"])
    check(_config(ModelConfig("n", build="my_net.net"), reg=reg, kernel=KernelConfig(size=3)))


def test_an_unknown_option_is_an_error_in_a_run_and_dropped_in_a_grid(write: Write) -> None:
    write(my_net=NET)
    config = _config(ModelConfig("n", build="my_net.net", options={"widht": 3}))
    with pytest.raises(
        ConfigError, match=r"model.options.widht=3 has no effect: .*did you mean width\?\. Leave it out$"
    ):
        check(config)
    reduced, dropped = reduce(config)
    assert reduced == _config(ModelConfig("n", build="my_net.net"))
    assert [option.way_out for option in dropped] == ["~model.options.widht"]


def test_the_smallest_image_is_an_expression_in_the_parameters(write: Write) -> None:
    bound = 'Annotated[int, "40 if deep else 20 * width"]'
    write(my_net=f"def net(image_size: {bound}, classes, *, width: int = 4, deep: bool = False): pass")
    with pytest.raises(ConfigError, match=r"image_size=64: must be 80 or more for model=n and model\.options\.width=4"):
        check(_config(ModelConfig("n", build="my_net.net")))
    check(_config(ModelConfig("n", build="my_net.net", options={"deep": True})))


def _fingerprint() -> str:
    return fingerprint(_config(ModelConfig("n", build="pack.nets.net")), SOURCE)


def test_the_code_decides_the_fingerprint_with_what_it_imports_from_its_folder(write: Write) -> None:
    net = "from . import parts\nimport helpers, keras\ndef net(image_size, classes): pass"
    write(pack_of___init__="", pack_of_nets=net, pack_of_parts="a = 1", helpers="import more", more="b = 1", other="")
    before = _fingerprint()
    write(other="c = 2")
    assert _fingerprint() == before
    found = {before}
    for name, text in {"pack_of___init__": "", "pack_of_nets": net, "pack_of_parts": "", "more": ""}.items():
        write(**{name: f"{text}\n# changed"})
        found.add(_fingerprint())
    assert len(found) == 5


def test_where_the_code_is_and_what_its_options_default_to_decide_nothing(write: Write) -> None:
    write(my_net=NET)
    plain, given = (ModelConfig("n", build="my_net.net", options=options) for options in ({}, {"width": 16}))
    assert fingerprint(_config(plain), SOURCE) == fingerprint(_config(given), SOURCE)
    wide = ModelConfig("n", build="my_net.net", options={"width": 17})
    assert fingerprint(_config(wide), SOURCE) != fingerprint(_config(plain), SOURCE)

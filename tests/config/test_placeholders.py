"""Objects that JSON can not hold."""

import functools
import json
import math

from ppo2.config import PLACEHOLDER, Config, is_placeholder, jsonable, placeholder_in


def test_objects_become_placeholders():
    def my_network():
        pass

    class Environment:
        pass

    found = Config(env=Environment(), network=my_network, lr=lambda frac: frac, model_fn=Environment).to_json()
    assert found["env"] == {PLACEHOLDER: "Environment"}
    assert found["network"] == {PLACEHOLDER: "my_network"}
    assert found["lr"] == {PLACEHOLDER: "<lambda>"}
    assert found["model_fn"] == {PLACEHOLDER: "Environment"}
    assert {name for name, value in found.items() if is_placeholder(value)} == {"env", "network", "lr", "model_fn"}
    json.dumps(found)
    assert jsonable(functools.partial(my_network)) == {PLACEHOLDER: "partial"}


def test_only_placeholders_are_placeholders():
    for value in ({}, {"object": 1, "more": 2}, {"num_layers": 2}, "object", None, ["object"]):
        assert not is_placeholder(value)
    assert is_placeholder(jsonable(math.sin))


def test_nested_values_are_kept():
    value = {"a": [1, 2.5, None, (True, "x")], "b": {"c": math.sin}}
    assert jsonable(value) == {"a": [1, 2.5, None, [True, "x"]], "b": {"c": {PLACEHOLDER: "sin"}}}


def test_objects_are_found_however_deep():
    value = {"wrappers": [{"by": [jsonable(math.sin)]}], "size": 3}
    assert placeholder_in("env_kwargs", value) == {PLACEHOLDER: "sin"}
    assert placeholder_in("encoders", {"camera": jsonable(math.sin)}) == {PLACEHOLDER: "sin"}
    assert placeholder_in("env_kwargs", {"object": "cube"}) is None  # an argument of this name
    assert placeholder_in("network", {"object": "Net"}) == {PLACEHOLDER: "Net"}

"""Networks are called by themselves here, outside of our programs."""

from collections.abc import Iterator

import pytest

from ppo2.numerics.precision import products


@pytest.fixture(autouse=True)
def float32_products() -> Iterator[None]:
    """Products are float32 on every platform, as in our programs; NVIDIA's cards would round to TF32."""
    with products():
        yield

"""A server that is started by a call."""

from __future__ import annotations

import socket

import pytest

from pomona.errors import PomonaError
from pomona.serve import serve

MODEL = "fake=http://127.0.0.1:9/v1#fake"


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_is_known_before_it_works(host: str, shown: str) -> None:
    with serve(model=[MODEL], host=host, port=0) as server:
        port = int(server.url.rpartition(":")[2])
        assert server.url == f"http://{shown}:{port}"
    with serve(model=[MODEL], host=host, port=port) as again:
        assert again.url == server.url


def test_a_model_that_is_none_leaves_the_port_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        with pytest.raises(PomonaError, match='unknown model "nothing-like-it"'):
            serve(model=["nothing-like-it"], port=port)
    with serve(model=[MODEL], port=port):
        pass

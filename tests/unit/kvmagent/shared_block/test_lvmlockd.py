import asyncio
import socket

from kvmagent.shared_block.lvmlockd import lvmlockd_answers
from tests.lvm_socket import lvmlockd


async def test_many_may_ask_at_once(tmp_path):
    address = tmp_path / "socket"
    with lvmlockd(address):
        asked = [lvmlockd_answers(address, 60) for _ in range(20)]
        assert await asyncio.gather(*asked) == [True] * 20


async def test_one_that_is_gone_hangs_up_or_is_silent_does_not_answer(tmp_path):
    address = tmp_path / "socket"
    assert not await lvmlockd_answers(address, 60)
    with lvmlockd(address, lambda: False):
        assert not await lvmlockd_answers(address, 60)
    silent = tmp_path / "silent"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(silent))
        server.listen()
        assert not await lvmlockd_answers(silent, 0.2)

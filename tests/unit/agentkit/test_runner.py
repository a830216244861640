import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

from agentkit.runner import Answer, CommandError, ProcessRunner, ScriptedRunner

run = ProcessRunner().run


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid, limit_s=60):
    end = time.monotonic() + limit_s
    while alive(pid) and time.monotonic() < end:
        await asyncio.sleep(0.01)
    return not alive(pid)


async def pid_in(path):
    for _ in range(1000):
        if path.exists() and path.read_text().endswith("\n"):
            return int(path.read_text())
        await asyncio.sleep(0.01)
    raise AssertionError("no pid")


async def test_output_exit_code_and_input_come_through():
    done = await run(["sh", "-c", "cat; echo oops >&2; exit 3"], timeout_s=60, input=b"hello")
    assert (done.returncode, done.stdout, done.stderr, done.truncated) == (3, b"hello", b"oops\n", False)


async def test_the_locale_is_c_and_systemd_variables_are_not_inherited(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    done = await run(["env"], timeout_s=60, env={"EXTRA": "1"})
    lines = done.stdout.decode().splitlines()
    assert "LC_ALL=C" in lines
    assert "EXTRA=1" in lines
    assert not [line for line in lines if line.startswith("NOTIFY_SOCKET")]


async def test_a_failed_command_is_named_with_exit_code_and_last_words_and_without_secrets():
    done = await run(["sh", "-c", "echo bad s3cret >&2; exit 5", "s3cret"], timeout_s=60, redact=["s3cret"])
    with pytest.raises(CommandError) as caught:
        done.check()
    assert "exit code 5: bad *****" in caught.value.details
    assert "s3cret" not in caught.value.details + repr(done.argv)


async def test_linked_commands_die_with_the_daemon_that_has_them_run(tmp_path):
    script = f"""
import asyncio, sys
from agentkit.runner import ProcessRunner
command = ["sh", "-c", "umask >{tmp_path}/umask; echo $$ >{tmp_path}/pid; exec sleep 1000"]
asyncio.run(ProcessRunner(linked=True, umask=0o027).run(command, timeout_s=1000))
"""
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    pid = await pid_in(tmp_path / "pid")
    assert alive(pid)
    daemon.kill()
    await daemon.wait()
    assert await gone(pid)
    assert (tmp_path / "umask").read_text().strip() == "0027"


async def test_a_linked_command_is_named_as_it_is():
    linked = ProcessRunner(linked=True)
    done = await linked.run(["sh", "-c", "exit 3"], timeout_s=60)
    with pytest.raises(CommandError, match=r": `sh -c 'exit 3'` failed: exit code 3"):
        done.check()
    with pytest.raises(CommandError, match="`no-such-command-here` cannot be started: No such file"):
        await linked.run(["no-such-command-here"], timeout_s=60)


async def test_a_command_that_is_not_there_is_named():
    with pytest.raises(
        CommandError, match="`no-such-command-here -v` cannot be started: No such file"
    ) as told:
        await run(["no-such-command-here", "-v"], timeout_s=60)
    assert (
        told.value.remedy
        == "install the package of no-such-command-here on the host, or see that it may be run"
    )


async def test_a_timeout_kills_grandchildren_that_ignore_sigterm(tmp_path):
    script = f"sh -c 'trap \"\" TERM; echo $$ > {tmp_path}/pid; while :; do sleep 1; done' & wait"
    with pytest.raises(CommandError, match=r"had not ended after 3 s and was killed"):
        await run(["sh", "-c", script], timeout_s=3)
    assert await gone(await pid_in(tmp_path / "pid"))


async def test_a_cancelled_caller_leaves_no_process(tmp_path):
    task = asyncio.create_task(run(["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 1000"], timeout_s=1000))
    pid = await pid_in(tmp_path / "pid")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(pid)


@pytest.mark.parametrize("turns", range(6))
async def test_a_caller_that_is_cancelled_while_the_process_starts_leaves_none(tmp_path, turns):
    script = f"echo $$ > {tmp_path}/pid; sleep 1000"
    task = asyncio.create_task(run(["sh", "-c", script], timeout_s=1000))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 20)
    async with asyncio.timeout(20):
        while any(script in line for line in command_lines()):
            await asyncio.sleep(0.01)


def command_lines():
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


async def test_ten_megabytes_of_output_are_capped():
    script = "import sys; sys.stdout.write('o' * 10_000_000); sys.stderr.write('e' * 10_000_000 + 'end')"
    done = await run([sys.executable, "-c", script], timeout_s=60, output_cap=1000)
    assert (done.returncode, done.truncated) == (0, True)
    assert done.stdout == b"o" * 1000
    assert done.stderr == b"e" * 997 + b"end"


async def test_a_large_input_that_nobody_reads_does_no_harm():
    done = await run(["true"], timeout_s=60, input=b"x" * 1_000_000)
    assert done.returncode == 0


async def test_a_process_left_behind_does_not_hold_the_caller(tmp_path):
    started = time.monotonic()
    done = await run(["sh", "-c", f"(echo started; sleep 30) & echo $! > {tmp_path}/pid"], timeout_s=20)
    assert done.returncode == 0
    assert time.monotonic() - started < 10
    os.kill(await pid_in(tmp_path / "pid"), 9)


async def test_a_script_answers_the_longest_beginning_that_fits():
    runner = ScriptedRunner({("ip",): Answer(b"short"), ("ip", "-j"): Answer(b"long", returncode=1)})
    assert (await runner.run(["ip", "-j", "link"], timeout_s=1)).stdout == b"long"
    assert (await runner.run(["ip", "link"], timeout_s=1)).stdout == b"short"
    with pytest.raises(CommandError, match="`lsblk` is not in the script"):
        await runner.run(["lsblk"], timeout_s=1)
    assert runner.ran[0] == ("ip", "-j", "link")

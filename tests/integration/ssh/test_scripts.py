"""Scripts on a real sshd: what they print and return, and what limits and failures do to them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace

import psutil
import pytest

from mn.fleet import shell
from mn.fleet.shares import Shares
from mn.fleet.shell import NO_RETURN_CODE, ScriptLimits, fan_out, run_script
from mn.fleet.ssh import SshPool, SshTarget
from tests.sshd import Account, Sshd, free_port, wait_until

LIMITS = ScriptLimits(time_s=30)
TURNS = Shares(50, 50)


async def until(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


async def test_a_script_returns_its_output_and_exit_code(
    target: SshTarget, sshd: Sshd, ssh_account: Account
) -> None:
    result = await run_script(target, "echo out; echo err >&2", LIMITS)
    assert result == shell.ShellResult(
        return_code=0, stdout="out\n", stderr="err\n", stdout_bytes=4, stderr_bytes=4, host_key=sshd.host_key
    )
    assert ssh_account.scripts() == []


async def test_a_failing_script_is_no_error_of_ours(target: SshTarget) -> None:
    result = await run_script(target, "echo bad >&2; exit 3", LIMITS)
    assert (result.return_code, result.stdout, result.stderr, result.error) == (3, "", "bad\n", None)


async def test_a_syntax_error_is_the_shells_exit_code(target: SshTarget) -> None:
    result = await run_script(target, "if then", LIMITS)
    assert result.return_code == 2
    assert "yntax error" in result.stderr
    assert result.error is None


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
async def test_a_script_killed_by_a_signal_returns_128_plus_it(
    target: SshTarget, name: str, code: int
) -> None:
    result = await run_script(target, f"echo before; kill -{name} $$", LIMITS)
    assert (result.return_code, result.stdout, result.stderr, result.error) == (code, "before\n", "", None)


async def test_a_script_that_reads_its_input_finds_it_empty(target: SshTarget) -> None:
    result = await run_script(target, "cat; wc -c; readlink /proc/self/fd/0; ls /proc/self/fd", LIMITS)
    assert result.stdout == "0\n/dev/null\n0\n1\n2\n3\n"


NASTY = """\
printf '%s\\n' 'single '"'"' quote' "double \\" quote" "$(echo sub) `echo tick` $((1 + 2)) \\\\ ! # %s"
cat <<'EOF'
EOF-like
 EOF
$HOME `id` "$x"
EOF
cat <<EOT
EOT 2
EOT
"""


async def test_quotes_here_documents_and_expansions_reach_the_shell_untouched(target: SshTarget) -> None:
    result = await run_script(target, NASTY, LIMITS)
    assert result.stdout == (
        'single \' quote\ndouble " quote\nsub tick 3 \\ ! # %s\nEOF-like\n EOF\n$HOME `id` "$x"\nEOT 2\n'
    )
    assert (result.return_code, result.stderr) == (0, "")


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
@pytest.mark.parametrize("letter", ["x", "ö"])
@pytest.mark.parametrize("length", [4, shell.READ_MAX_BYTES * 2])
async def test_the_script_is_the_file_it_runs_from(
    target: SshTarget, end: str, letter: str, length: int
) -> None:
    script = f'sha256sum <"$0"; exit 0\n\n\t \\%s \\\\ $(x) `y` \' " {letter * length} \\\n\n  {end}'
    result = await run_script(target, script, LIMITS)
    assert (result.stdout.split()[0], result.stderr) == (hashlib.sha256(script.encode()).hexdigest(), "")


async def test_every_byte_of_a_binary_script_arrives(target: SshTarget) -> None:
    payload = bytes(byte for byte in range(1, 256) if byte != 0x0A) * 3
    script = b'tail -n 1 "$0" | head -c 762 | sha256sum; exit\n' + payload
    result = await run_script(target, script, LIMITS)
    assert result.stdout.split()[0] == hashlib.sha256(payload).hexdigest()


async def test_a_script_of_one_megabyte_runs(target: SshTarget) -> None:
    filler = "# padding padding padding padding padding padding padding\n"
    script = filler * (1024 * 1024 // len(filler) + 1) + 'wc -c <"$0"; exit 7\n'
    result = await run_script(target, script, LIMITS)
    assert (result.return_code, result.stdout.strip()) == (7, str(len(script)))


async def test_text_outside_ascii_survives_both_ways(target: SshTarget) -> None:
    result = await run_script(target, "echo 'größe 大小'", LIMITS)
    assert result.stdout == "größe 大小\n"


async def test_output_that_is_not_utf8_is_decoded_with_replacement(target: SshTarget) -> None:
    result = await run_script(target, r"printf 'a\377b\303'", LIMITS)
    assert (result.stdout, result.stdout_bytes) == ("a\ufffdb\ufffd", 4)


async def test_ten_megabytes_are_cut_and_the_exit_code_kept(target: SshTarget) -> None:
    script = "head -c 10485760 /dev/zero | tr '\\0' x; echo tail >&2; exit 5"
    result = await run_script(target, script, LIMITS)
    assert result.return_code == 5
    assert result.stdout == "x" * (1 << 20)
    assert (result.stdout_bytes, result.stdout_truncated) == (10485760, True)
    assert (result.stderr, result.stderr_bytes, result.stderr_truncated) == ("tail\n", 5, False)


async def test_a_cut_does_not_leave_half_a_character(target: SshTarget) -> None:
    result = await run_script(target, "printf 'aäää'", ScriptLimits(time_s=30, output_bytes=4))
    assert (result.stdout, result.stdout_bytes, result.stdout_truncated) == ("aä", 7, True)


async def test_a_hanging_script_is_killed_with_all_it_started(
    target: SshTarget, ssh_account: Account
) -> None:
    script = "echo begun; sleep 3000 & setsid sleep 3001 & (setsid sh -c 'sleep 3002 & wait' &); sleep 3003"
    result = await run_script(target, script, ScriptLimits(time_s=4))
    assert result.error is not None
    assert result.error.code == "SYS.1001"
    assert (
        result.error.details == f"{target.label}: the script ran longer than its limit of 4 s and was killed"
    )
    assert result.error.remedy
    assert (result.stdout, result.return_code) == ("begun\n", 137)
    await asyncio.to_thread(ssh_account.wait_for_no_processes)
    assert ssh_account.scripts() == []


async def test_children_that_left_group_and_environment_die_with_a_hanging_script(
    target: SshTarget, ssh_account: Account
) -> None:
    script = """
        env -i setsid sleep 3011 &
        (env -i setsid sh -c 'env -i setsid sh -c "setsid sleep 3012; true"; true'; true) &
        sleep 3013
    """
    call = asyncio.create_task(run_script(target, script, ScriptLimits(time_s=10)))
    wanted = {"sleep 3011", "sleep 3012", "sleep 3013"}
    await until(lambda: wanted <= set(ssh_account.processes()), "the script and its children to run")
    result = await call
    assert result.error is not None
    assert result.error.details.endswith("and was killed")
    await asyncio.to_thread(ssh_account.wait_for_no_processes)


async def test_a_host_that_is_cut_off_stops_the_script_by_itself(
    target: SshTarget, sshd: Sshd, ssh_account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "HOST_WATCHDOG_MARGIN_S", 1)
    monkeypatch.setattr(shell, "KILL_CONFIRM_S", 0.2)
    call = asyncio.create_task(run_script(target, "sleep 3007", ScriptLimits(time_s=5)))
    await until(lambda: "sleep 3007" in ssh_account.processes(), "the script to run")
    for session in sshd.sessions():
        session.suspend()
    result = await call
    assert result.error is not None
    assert result.error.details.endswith(" 5 s and the host did not confirm that it is killed")
    assert result.return_code == NO_RETURN_CODE
    await asyncio.to_thread(ssh_account.wait_for_no_processes)
    assert ssh_account.scripts() == []


async def test_a_script_that_ignores_signals_and_floods_is_killed(
    target: SshTarget, ssh_account: Account
) -> None:
    result = await run_script(target, "trap '' TERM HUP INT USR1; yes", ScriptLimits(time_s=5))
    assert result.error is not None
    assert result.error.code == "SYS.1001"
    assert result.stdout == "y\n" * (1 << 19)
    assert result.stdout_truncated
    await asyncio.to_thread(ssh_account.wait_for_no_processes)


async def test_a_connection_stays_usable_after_a_time_out(
    target: SshTarget, pool: SshPool, sshd: Sshd
) -> None:
    await run_script(target, "sleep 3000", ScriptLimits(time_s=0.5), pool=pool)
    result = await run_script(target, "echo next", LIMITS, pool=pool)
    assert (result.stdout, sshd.logins()) == ("next\n", 1)


async def test_a_daemon_left_by_a_script_neither_delays_nor_dies(
    target: SshTarget, ssh_account: Account
) -> None:
    result = await asyncio.wait_for(run_script(target, "sleep 3004 & echo started", LIMITS), 10)
    assert (result.return_code, result.stdout, result.error) == (0, "started\n", None)
    await until(lambda: ssh_account.processes() == ["sleep 3004"], "only the daemon to be left")
    ssh_account.kill_processes()


async def test_a_cancelled_call_kills_the_script(
    target: SshTarget, ssh_account: Account, pool: SshPool
) -> None:
    call = asyncio.create_task(run_script(target, "sleep 3005", LIMITS, pool=pool))
    await until(lambda: "sleep 3005" in ssh_account.processes(), "the script to run")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.to_thread(ssh_account.wait_for_no_processes)
    assert ssh_account.scripts() == []


async def test_a_lost_connection_is_an_error_with_the_output_so_far(
    target: SshTarget, sshd: Sshd, ssh_account: Account
) -> None:
    call = asyncio.create_task(run_script(target, "echo partial; sleep 3006", LIMITS))
    await until(lambda: "sleep 3006" in ssh_account.processes(), "the script to run")
    for session in sshd.sessions():
        with contextlib.suppress(psutil.NoSuchProcess):  # one may end with another
            session.kill()
    result = await call
    assert result.error is not None
    assert result.error.code == "HOST.1003"
    assert "the SSH connection was lost while the script ran" in result.error.details
    assert (result.return_code, result.stdout) == (NO_RETURN_CODE, "partial\n")
    await asyncio.to_thread(ssh_account.wait_for_no_processes)
    assert ssh_account.scripts() == []


async def test_an_ssh_failure_is_in_the_result(target: SshTarget) -> None:
    result = await run_script(replace(target, password="wrong"), "echo no", LIMITS)
    assert result.error is not None
    assert result.error.code == "HOST.1012"
    assert (result.return_code, result.stdout, result.host_key) == (NO_RETURN_CODE, "", None)


async def test_a_host_that_cannot_store_the_script_says_why(
    start_sshd: Callable[..., Sshd], ssh_account: Account
) -> None:
    server = start_sshd(options={"SetEnv": "TMPDIR=/nonexistent"})
    target = SshTarget(server.address, server.port, ssh_account.name, ssh_account.password)
    result = await run_script(target, "echo no", LIMITS)
    assert result.error is not None
    assert result.error.code == "SYS.1006"
    assert "the script was not started (exit code 1): " in result.error.details
    assert "/nonexistent/hardpoint." in result.error.details
    assert result.return_code == NO_RETURN_CODE


async def test_a_forced_command_is_not_taken_for_the_script(
    start_sshd: Callable[..., Sshd], ssh_account: Account
) -> None:
    server = start_sshd(options={"ForceCommand": "echo this account is closed"})
    target = SshTarget(server.address, server.port, ssh_account.name, ssh_account.password)
    result = await run_script(target, "echo no", LIMITS)
    assert result.error is not None
    assert "not started (exit code 0): this account is closed" in result.error.details


async def test_what_the_login_shell_prints_is_not_output(target: SshTarget) -> None:
    await run_script(target, "echo 'echo welcome; printf noise >&2' >~/.bashrc", LIMITS)
    try:
        result = await run_script(target, "echo out; echo err >&2", LIMITS)
    finally:
        await run_script(target, "rm ~/.bashrc", LIMITS)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


async def test_the_script_is_private_while_it_runs(target: SshTarget) -> None:
    result = await run_script(target, 'stat -c %a "$0"; umask', LIMITS)
    assert result.stdout == "600\n0077\n"


async def test_twenty_targets_run_at_once(target: SshTarget, pool: SshPool, sshd: Sshd) -> None:
    """Each script waits until all twenty have begun, so it ends only when they run side by side."""
    script = """
        mkdir -p ~/twenty; touch ~/twenty/$$
        until [ $(ls ~/twenty | wc -l) -ge 20 ]; do sleep 0.5; done
    """
    targets = {f"host{number}": target for number in range(20)}
    results = await fan_out(targets, script, ScriptLimits(time_s=120), TURNS, pool=pool)
    assert list(results) == list(targets)
    assert {(r.return_code, r.stderr, r.error) for r in results.values()} == {(0, "", None)}
    assert sshd.logins() == 20


async def test_a_fan_out_is_bounded(target: SshTarget, pool: SshPool, sshd: Sshd) -> None:
    results = await fan_out({str(n): target for n in range(9)}, "echo hi", LIMITS, Shares(3, 3), pool=pool)
    assert [result.stdout for result in results.values()] == ["hi\n"] * 9
    assert sshd.logins() == 3


async def test_one_failing_host_does_not_touch_the_others(target: SshTarget, pool: SshPool) -> None:
    targets = {
        "good": target,
        "refused": replace(target, port=free_port()),
        "denied": replace(target, password="wrong"),
        "also good": target,
    }
    results = await fan_out(targets, "echo fine", LIMITS, TURNS, pool=pool)
    codes = {name: result.error.code if result.error else result.stdout for name, result in results.items()}
    assert codes == {"good": "fine\n", "refused": "HOST.1003", "denied": "HOST.1012", "also good": "fine\n"}


async def test_a_fault_of_ours_on_one_host_does_not_touch_the_others(
    target: SshTarget, pool: SshPool
) -> None:
    impossible = replace(target, username=None)  # type: ignore[arg-type]
    results = await fan_out({"bad": impossible, "good": target}, "echo fine", LIMITS, TURNS, pool=pool)
    assert results["bad"].error is not None
    assert results["bad"].error.code == "SYS.1000"
    assert results["good"].stdout == "fine\n"


async def test_a_dead_kept_connection_is_replaced_unseen(
    target: SshTarget, pool: SshPool, sshd: Sshd
) -> None:
    await run_script(target, "true", LIMITS, pool=pool)
    sshd.restart()
    result = await run_script(target, "echo again", LIMITS, pool=pool)
    assert (result.stdout, result.error) == ("again\n", None)


async def test_a_frozen_kept_connection_is_replaced_unseen(
    target: SshTarget, pool: SshPool, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "OPEN_TIMEOUT_S", 6.0)
    await run_script(target, "true", LIMITS, pool=pool)
    for session in sshd.sessions():
        session.suspend()
    result = await run_script(target, "echo again", LIMITS, pool=pool)
    assert (result.stdout, result.error, sshd.logins()) == ("again\n", None, 2)


async def test_a_server_that_has_ended_its_own_command_before_the_script_is_sent_is_told_of(
    start_sshd: Callable[..., Sshd], ssh_account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_channel: object, _data: bytes) -> None:
        raise BrokenPipeError("Channel not open for sending")

    monkeypatch.setattr("asyncssh.channel.SSHChannel.write", late)
    server = start_sshd(options={"ForceCommand": "echo this account is closed"})
    target = SshTarget(server.address, server.port, ssh_account.name, ssh_account.password)
    result = await run_script(target, "echo no", LIMITS)
    assert result.error is not None
    assert "this account is closed" in result.error.details

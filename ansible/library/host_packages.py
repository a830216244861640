"""Ansible module: see that packages of the host's distribution are there; only missing ones are installed."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_packages
short_description: Install the packages that are missing, from the repositories the host has
options:
  manager: {description: C(apt) or C(dnf), type: str, required: true, choices: [apt, dnf]}
  names: {description: Packages, type: list, elements: str, required: true}
  optional: {description: Packages that do no harm when the repositories have none, type: list, elements: str}
"""
ENVIRONMENT = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
APT = ["apt-get", "-y", "-q", "-o", "Dpkg::Options::=--force-confold", "-o", "DPkg::Lock::Timeout=300"]


def missing(module, names):
    """Return which of the packages are not installed; a package that provides another counts for it."""
    if not names:
        return []
    if module.params["manager"] == "dnf":
        return [name for name in names if module.run_command(["rpm", "-q", "--whatprovides", name])[0]]
    form = "${db:Status-Status} ${Package}\\n"
    output = module.run_command(["dpkg-query", "-W", "-f", form, *names], environ_update=ENVIRONMENT)[1]
    there = {line.split()[1] for line in output.splitlines() if line.startswith("installed ")}
    return [name for name in names if name not in there]


def install(module, names):
    """Install packages; return what the package manager said when it could not."""
    if module.params["manager"] == "dnf":
        return run(module, ["dnf", "-y", "-q", "install", *names])
    # The lists may be older than the repositories; when they cannot be read anew, they may still do.
    outdated = run(module, [*APT, "update"])
    command = [*APT, "--no-install-recommends", "install", *names]
    said = run(module, command)
    if "dpkg --configure -a" in said:  # an installation before this one was cut off
        run(module, ["dpkg", "--configure", "-a", "--force-confold"])
        said = run(module, command)
    return "\n".join(line for line in (outdated, said) if line) if said else ""


def run(module, command):
    """Run a command; return its last words when it failed, else an empty text."""
    code, output, error = module.run_command(command, environ_update=ENVIRONMENT)
    lines = [line for line in (error or output).splitlines() if line.strip()]
    return ("\n".join(lines[-4:]) or "exit code %d" % code) if code else ""


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "manager": {"type": "str", "required": True, "choices": ["apt", "dnf"]},
            "names": {"type": "list", "elements": "str", "required": True},
            "optional": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(msg="packages can be installed by root only")
    lacking = missing(module, module.params["names"])
    if lacking and not module.check_mode:
        said = install(module, lacking)
        still = missing(module, lacking)
        if still:
            module.fail_json(
                msg="the packages %s are missing and could not be installed: %s"
                % (", ".join(still), said or "the package manager gave no reason"),
                remedy="see that the host's package repositories can be reached and have them, or install "
                "them by hand",
            )
    wanted = missing(module, module.params["optional"])
    absent = wanted
    if wanted and not module.check_mode:
        for name in wanted:  # one by one: a package manager installs nothing when it does not know one
            install(module, [name])
        absent = missing(module, wanted)
    installed = lacking + [name for name in wanted if name not in absent]
    module.exit_json(changed=bool(installed), installed=installed, absent=absent)


if __name__ == "__main__":
    main()

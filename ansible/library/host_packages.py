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
"""
ENVIRONMENT = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
APT = ["apt-get", "-y", "-q", "-o", "Dpkg::Options::=--force-confold", "-o", "DPkg::Lock::Timeout=300"]


def missing(module, names):
    """Return which of the packages are not installed; a package that provides another counts for it."""
    if module.params["manager"] == "dnf":
        return [name for name in names if module.run_command(["rpm", "-q", "--whatprovides", name])[0]]
    form = "${db:Status-Status} ${Package}\\n"
    output = module.run_command(["dpkg-query", "-W", "-f", form, *names], environ_update=ENVIRONMENT)[1]
    there = {line.split()[1] for line in output.splitlines() if line.startswith("installed ")}
    return [name for name in names if name not in there]


def install(module, names):
    """Install packages; return what the package manager said when it could not."""
    if module.params["manager"] == "dnf":
        commands = [["dnf", "-y", "-q", "install", *names]]
    else:
        # The lists may be older than the repositories; when they cannot be read anew, they may still do.
        commands = [[*APT, "update"], [*APT, "--no-install-recommends", "install", *names]]
    said = []
    for command in commands:
        code, output, error = module.run_command(command, environ_update=ENVIRONMENT)
        said += [line for line in (error or output).splitlines() if line.strip()] if code else []
    return "\n".join(said[-6:]) if code else ""


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "manager": {"type": "str", "required": True, "choices": ["apt", "dnf"]},
            "names": {"type": "list", "elements": "str", "required": True},
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
    module.exit_json(changed=bool(lacking), installed=lacking)


if __name__ == "__main__":
    main()

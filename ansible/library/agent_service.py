"""Ansible module: switch an agent to a version, start it, and go back when it does not run."""

from __future__ import annotations

import json
import os
import shutil

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agent_service
short_description: Switch HOME/current to a version and start the unit that lies in it
description:
  - C(present) switches and starts; when the unit does not become ready (Type=notify), the version before is
    switched back to and started, and the module fails with the last lines of the new one's log.
  - C(rolled_back) goes from VERSION to the version before, C(absent) stops the unit and removes C(remove).
options:
  home: {description: Folder of all versions, type: path, required: true}
  version: {description: The version to run, type: str}
  unit: {description: Name of the unit and of its file in a version's folder, type: str, required: true}
  restart: {description: Restart the unit though its version is right, type: bool}
  state: {description: Wanted state, type: str, choices: [present, rolled_back, absent]}
  remove: {description: Folders to remove, type: list, elements: path}
  owner_file: {description: Where the agent remembers its owner, type: path}
  owner: {description: An owner of the same fleet by another host uuid is forgotten, type: dict}
"""
UNITS = "/etc/systemd/system"
LOG_LINES = 25


class Service:
    """The unit and the versions it can run."""

    def __init__(self, module):
        self.module = module
        self.home = module.params["home"]
        self.unit = module.params["unit"]
        self.file = os.path.join(UNITS, self.unit)
        self.link = os.path.join(self.home, "current")

    def systemctl(self, *words):
        """Run systemctl; return its exit code and what it said."""
        code, output, error = self.module.run_command(["systemctl", *words], environ_update={"LC_ALL": "C"})
        return code, (error or output).strip()

    def current(self):
        """Return the version that is switched to, None when none is."""
        try:
            return os.path.basename(os.readlink(self.link))
        except OSError:
            return None

    def previous(self):
        """Return the version that was switched to before the current one, None when there is none."""
        try:
            with open(os.path.join(self.home, "previous")) as file:
                name = file.read().strip()
        except OSError:
            return None
        return name if os.path.exists(os.path.join(self.home, name, ".complete")) else None

    def active(self):
        """Say whether the unit runs and is ready."""
        return self.systemctl("is-active", "--quiet", self.unit)[0] == 0

    def in_place(self, version):
        """Say whether all of the unit but its process is as it should be."""
        try:
            with open(self.file, "rb") as there, open(self._unit_of(version), "rb") as wanted:
                same = there.read() == wanted.read()
        except OSError:
            return False
        enabled = os.path.islink(os.path.join(UNITS, "multi-user.target.wants", self.unit))
        return same and enabled and self.current() == version

    def switch(self, version):
        """Make a version the current one."""
        partial = self.link + ".new"
        if os.path.lexists(partial):
            os.unlink(partial)
        os.symlink(version, partial)
        os.replace(partial, self.link)
        shutil.copyfile(self._unit_of(version), self.file + ".new")
        os.chmod(self.file + ".new", 0o644)
        os.replace(self.file + ".new", self.file)

    def remember(self, version):
        """Write down which version to go back to."""
        with open(os.path.join(self.home, "previous"), "w") as file:
            file.write(version + "\n")

    def start(self):
        """Start the unit anew; return what was wrong, an empty text when it is ready."""
        self.systemctl("daemon-reload")
        self.systemctl("reset-failed", self.unit)
        said = self.systemctl("enable", "--quiet", self.unit)
        code, reason = self.systemctl("restart", self.unit) if said[0] == 0 else said
        return "" if code == 0 else reason or "systemctl gave no reason"

    def log(self):
        """Return the last lines of the unit's log."""
        argv = ["journalctl", "--unit", self.unit, "--lines", str(LOG_LINES), "--no-pager", "--output", "cat"]
        return self.module.run_command(argv)[1].strip()

    def prune(self):
        """Remove all versions but the current one and the one before; return their names."""
        kept = {self.current(), self.previous()}
        gone = []
        for name in sorted(os.listdir(self.home)):
            path = os.path.join(self.home, name)
            if os.path.isdir(path) and not os.path.islink(path) and name not in kept:
                shutil.rmtree(path)
                gone.append(name)
        return gone

    def _unit_of(self, version):
        return os.path.join(self.home, version, self.unit)


def forget_stale_owner(module):
    """Forget an owner that is this fleet by another uuid: a host that was deleted while it was away."""
    path, owner = module.params["owner_file"], module.params["owner"]
    if not path or not owner:
        return False
    try:
        with open(path) as file:
            known = json.load(file)
    except (OSError, ValueError):
        return False
    if known == owner or known.get("fleetUuid") != owner["fleetUuid"]:
        return False
    os.unlink(path)
    return True


def present(module, service):
    """Switch and start, or go back."""
    version, before = module.params["version"], service.current()
    forgotten = forget_stale_owner(module)
    right = service.in_place(version) and not module.params["restart"] and not forgotten
    if right and service.active():
        return {"changed": bool(service.prune())}
    service.switch(version)
    if before and before != version:
        service.remember(before)
    reason = service.start()
    if reason:
        go_back(module, service, before, reason)
    return {"changed": True, "pruned": service.prune()}


def go_back(module, service, before, reason):
    """Fail; before that, run the version that ran."""
    version, log = module.params["version"], service.log()
    outcome = "there is no version before it to go back to"
    if before and before != version:
        service.switch(before)
        again = service.start()
        outcome = "version %s runs again" % before
        if again:
            outcome = "version %s was switched back to and does not start either: %s" % (before, again)
        shutil.rmtree(os.path.join(service.home, version), ignore_errors=True)
    else:
        service.systemctl("stop", service.unit)
    module.fail_json(
        msg="version %s of the agent did not become ready (%s); %s"
        % (version, reason.splitlines()[0], outcome),
        log=log,
        remedy="see its log: journalctl -u %s" % service.unit,
    )


def rolled_back(module, service):
    """Leave a version that the management node cannot reach."""
    version, log = module.params["version"], service.log()
    before = service.previous()
    if service.current() != version or before in (None, version):
        return {"changed": False, "log": log, "version": service.current()}
    service.switch(before)
    reason = service.start()
    if reason:
        module.fail_json(msg="version %s does not start: %s" % (before, reason), log=log)
    shutil.rmtree(os.path.join(service.home, version), ignore_errors=True)
    return {"changed": True, "log": log, "version": before}


def absent(module, service):
    """Stop the unit and remove it with its folders."""
    changed = False
    if os.path.exists(service.file):
        code, said = service.systemctl("disable", "--now", "--quiet", service.unit)
        if code:
            module.fail_json(msg="%s could not be stopped: %s" % (service.unit, said))
        os.unlink(service.file)
        service.systemctl("daemon-reload")
        service.systemctl("reset-failed", service.unit)
        changed = True
    for path in module.params["remove"]:
        if os.path.isdir(path):
            shutil.rmtree(path)
            changed = True
        parent = os.path.dirname(path)
        if os.path.basename(parent) == "hardpoint" and os.path.isdir(parent) and not os.listdir(parent):
            os.rmdir(parent)
    return {"changed": changed}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "version": {"type": "str"},
            "unit": {"type": "str", "required": True},
            "restart": {"type": "bool", "default": False},
            "state": {"type": "str", "default": "present", "choices": ["present", "rolled_back", "absent"]},
            "remove": {"type": "list", "elements": "path", "default": []},
            "owner_file": {"type": "path"},
            "owner": {"type": "dict"},
        },
        required_if=[("state", "present", ["version"]), ("state", "rolled_back", ["version"])],
    )
    os.umask(0o022)
    service = Service(module)
    action = {"present": present, "rolled_back": rolled_back, "absent": absent}[module.params["state"]]
    try:
        result = action(module, service)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or service.home, error.strerror))
    module.exit_json(**result)


if __name__ == "__main__":
    main()

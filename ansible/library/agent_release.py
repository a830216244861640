"""Ansible module: unpack a release of an agent into a virtual environment beside the ones that are there."""

from __future__ import annotations

import os
import shutil
import tarfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agent_release
short_description: Make HOME/VERSION from a bundle; there whole (with C(.complete)) or not at all
options:
  home: {description: Folder of all versions, type: path, required: true}
  version: {description: Name of the new one, type: str, required: true}
  bundle: {description: tar.gz of site-packages, on the management node, type: path, required: true}
  python: {description: The interpreter, type: path, required: true}
  scripts: {description: Commands to make, name to C(module:function), type: dict}
"""


def site_packages(folder):
    """Return the only site-packages of a virtual environment."""
    lib = os.path.join(folder, "lib")
    return os.path.join(lib, os.listdir(lib)[0], "site-packages")


def unpack(bundle, folder):
    """Unpack plain files; a name that leads out of the folder, a link or a device is refused."""
    with tarfile.open(bundle, "r:gz") as archive:
        for member in archive:
            parts = member.name.split("/")
            if not member.isfile() or member.name.startswith("/") or ".." in parts:
                raise ValueError("the bundle has the unusable member %r" % member.name)
            path = os.path.join(folder, *parts)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.extractfile(member) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
            os.chmod(path, member.mode & 0o755)


def build(module, folder):
    """Make the virtual environment; it has no pip, so that Debian's bare python3 makes it too."""
    python = module.params["python"]
    code, _, error = module.run_command([python, "-I", "-m", "venv", "--without-pip", "--clear", folder])
    if code:
        module.fail_json(
            msg="%s cannot make a virtual environment: %s" % (python, error.strip()[-500:]),
            remedy="install the whole standard library of this Python on the host",
        )
    place = site_packages(folder)
    unpack(module.params["bundle"], place)
    if not os.path.isdir(os.path.join(place, "agentkit", "__pycache__")):
        module.run_command([python, "-I", "-m", "compileall", "-q", place])


def write_scripts(module, folder, final):
    """Make the commands of a release; they name the interpreter where it will be."""
    for name, entry in module.params["scripts"].items():
        source, _, function = entry.partition(":")
        path = os.path.join(folder, "bin", name)
        with open(path, "w") as file:
            file.write("#!%s -I\n" % os.path.join(final, "bin", "python"))
            file.write("import sys\n\nfrom %s import %s\n\nsys.exit(%s())\n" % (source, function, function))
        os.chmod(path, 0o755)  # noqa: S103 - a command for everybody


def main():
    """Run the module."""
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "home": path,
            "version": {"type": "str", "required": True},
            "bundle": path,
            "python": path,
            "scripts": {"type": "dict", "default": {}},
        }
    )
    os.umask(0o022)
    home, version = module.params["home"], module.params["version"]
    final = os.path.join(home, version)
    partial = os.path.join(home, ".partial-" + version)
    complete = os.path.exists(os.path.join(final, ".complete"))
    try:
        if not complete:
            os.makedirs(home, mode=0o755, exist_ok=True)
            for leftover in (partial, final):
                if os.path.isdir(leftover):
                    shutil.rmtree(leftover)
            build(module, partial)
            write_scripts(module, partial, final)
            os.rename(partial, final)
            os.sync()
            with open(os.path.join(final, ".complete"), "w"):
                pass
    except (OSError, ValueError, tarfile.TarError) as error:
        module.fail_json(
            msg="the agent could not be unpacked to %s: %s" % (final, error),
            remedy="see that the host has 200 MB of room in /opt and in the user's home, mounted read-write",
        )
    module.exit_json(changed=not complete)


if __name__ == "__main__":
    main()

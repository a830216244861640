"""Ansible module: write several small files in one call, each in one piece."""

from __future__ import annotations

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_files
short_description: Write small files, owned by root, and remove others
options:
  files: {description: Path to C(content) and C(mode) (octal), type: dict, required: true}
  absent: {description: Paths of files that must not be there, type: list, elements: str}
"""


def differs(path, content, mode):
    """Say whether a file is not as wanted."""
    try:
        with open(path, "rb") as file:
            return file.read() != content or (os.fstat(file.fileno()).st_mode & 0o7777) != mode
    except FileNotFoundError:
        return True


def write(path, content, mode):
    """Write a file so that it is there whole or not at all."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".hardpoint-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True, "no_log": True},
            "absent": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    changed = []
    try:
        for path, wanted in sorted(module.params["files"].items()):
            content, mode = wanted["content"].encode(), int(wanted["mode"], 8)
            if differs(path, content, mode):
                changed.append(path)
                if not module.check_mode:
                    write(path, content, mode)
        for path in module.params["absent"]:
            if os.path.exists(path):
                changed.append(path)
                if not module.check_mode:
                    os.unlink(path)
    except OSError as error:
        module.fail_json(
            msg="%s cannot be written: %s" % (error.filename, error.strerror),
            remedy="see that the host's file systems have room and are mounted read-write",
        )
    module.exit_json(changed=bool(changed), paths=changed)


if __name__ == "__main__":
    main()

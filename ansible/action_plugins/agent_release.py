"""Action of the module agent_release: brings the bundle along, so that one task copies and unpacks it."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Copies `bundle` into a folder of the task on the host, and has the module unpack it there."""

    def run(self, tmp=None, task_vars=None):
        """Run the task."""
        result = super().run(tmp, task_vars)
        given = dict(self._task.args)
        try:
            source = self._find_needle("files", given["bundle"])
        except KeyError:
            raise AnsibleActionFail("bundle is missing") from None
        folder = self._make_tmp_path()
        try:
            there = self._transfer_file(source, self._connection._shell.join_path(folder, "bundle.tar.gz"))
            result.update(self._execute_module(module_args={**given, "bundle": there}, task_vars=task_vars))
        finally:
            self._remove_tmp_path(folder)
        return result

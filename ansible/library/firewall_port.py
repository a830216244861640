"""Ansible module: open or close a TCP port in firewalld, now and after a reboot."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: firewall_port
short_description: A TCP port of firewalld's default zone
options:
  port: {description: The port, type: int, required: true}
  state: {description: Wanted state, type: str, choices: [open, closed]}
"""


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "required": True},
            "state": {"type": "str", "default": "open", "choices": ["open", "closed"]},
        }
    )
    port, wanted = "%d/tcp" % module.params["port"], module.params["state"] == "open"
    changed = False
    for permanent in (["--permanent"], []):
        found = module.run_command(["firewall-cmd", *permanent, "--query-port=" + port])[0] == 0
        if found != wanted:
            verb = "--add-port=" if wanted else "--remove-port="
            code, output, error = module.run_command(["firewall-cmd", *permanent, verb + port])
            if code:
                module.fail_json(
                    msg="firewalld did not change port %s: %s" % (port, (error or output).strip()),
                    remedy="open the port by hand, or stop firewalld",
                )
            changed = True
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()

from kvmagent.machine.facts import os_release, read_facts, virtualisation
from kvmagent.machine.tree import Tree


def test_the_recorded_server_is_described(recorded) -> None:
    facts = read_facts(Tree(recorded("four-socket-2013")))
    assert (facts.system_vendor, facts.system_product) == ("Dell Inc.", "PowerEdge R910")
    assert (facts.cpu_num, facts.cpu_sockets, facts.cpu_cores) == (40, 4, 40)
    assert (facts.virtualisation, facts.kvm, facts.iommu) == ("vmx", False, False)
    assert facts.cpu_model == "Intel(R) Xeon(R) CPU E7- 4870 @ 2.40GHz"
    assert facts.memory_bytes == 542134673408
    assert facts.architecture == "x86_64"


def test_threads_cores_and_sockets_are_counted_apart(recorded) -> None:
    facts = read_facts(Tree(recorded("eight-accelerators")))
    assert (facts.cpu_num, facts.cpu_sockets, facts.cpu_cores) == (32, 2, 16)
    assert facts.kernel == "3.10.0-1160.15.2.el7.x86_64"


def test_an_empty_machine_has_facts_that_say_nothing(machine) -> None:
    facts = read_facts(Tree(machine.root))
    assert (facts.hostname, facts.kernel, facts.cpu_num, facts.memory_bytes) == ("", "", 0, 0)
    assert (facts.machine_id, facts.boot_id, facts.cpu_mhz) == (None, None, None)


def test_an_arm_machine_is_understood(machine) -> None:
    machine.write(
        "/proc/cpuinfo",
        "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\n\n"
        "processor\t: 1\nCPU implementer\t: 0x41\nCPU architecture: 8\n\nSerial\t: 00\nModel\t: Board\n",
    )
    machine.write("/sys/class/iommu/smmu3.0x1/uevent")
    machine.write("/dev/kvm")
    facts = read_facts(Tree(machine.root))
    assert (facts.architecture, facts.cpu_num, facts.cpu_vendor) == ("aarch64", 2, "0x41")
    assert facts.kvm
    assert facts.iommu


def test_what_a_maker_forgot_to_fill_in_is_none(machine) -> None:
    machine.write("/sys/class/dmi/id/sys_vendor", "To Be Filled By O.E.M.\n")
    machine.write("/sys/class/dmi/id/product_serial", "0000000\n")
    machine.write("/sys/class/dmi/id/product_name", "X11\n")
    facts = read_facts(Tree(machine.root))
    assert (facts.system_vendor, facts.system_product, facts.system_serial) == (None, "X11", None)


def test_the_distribution_is_read_through_the_usual_link(machine) -> None:
    machine.write(
        "/usr/lib/os-release", 'ID="rocky"\nVERSION_ID=\'9.4\'\n# x=y\nPRETTY_NAME="Rocky Linux 9.4"\n'
    )
    machine.link("/etc/os-release", "../usr/lib/os-release")
    facts = read_facts(Tree(machine.root))
    assert (facts.distribution, facts.distribution_version) == ("rocky", "9.4")
    assert facts.distribution_name == "Rocky Linux 9.4"


def test_fields_of_os_release_lose_their_quotes() -> None:
    assert os_release('A="b c"\n\n#D=e\nnonsense\n') == {"A": "b c"}


def test_virtualisation_is_a_whole_word() -> None:
    assert virtualisation("fpu svm lm") == "svm"
    assert virtualisation("fpu svm_lock novmx") is None

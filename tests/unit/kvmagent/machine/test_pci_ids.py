from kvmagent.machine.pci_ids import PciIds, load
from kvmagent.machine.tree import Tree

TEXT = b"""# comment
1000  First
\t0001  One
\t\t10de 0002  Subsystem of one
10de  NVIDIA Corporation
# a comment inside
\t1db4  GV100GL
10df  Next
\t1db5  Of next
ffff  Illegal
C 03  Display controller
\t00  VGA compatible controller
\t\t00  VGA controller
C 0c  Serial bus controller
\t03  USB controller
"""


def test_names_are_found_in_their_own_section_only() -> None:
    ids = PciIds(TEXT)
    assert ids.vendor("10de") == "NVIDIA Corporation"
    assert ids.device("10de", "1db4") == "GV100GL"
    assert ids.device("10de", "1db5") is None
    assert ids.device("1000", "10de") is None
    assert ids.vendor("beef") is None
    assert ids.device("beef", "0001") is None


def test_a_class_is_named_by_its_subclass_else_by_its_base() -> None:
    ids = PciIds(TEXT)
    assert ids.class_name("030000") == "VGA compatible controller"
    assert ids.class_name("038000") == "Display controller"
    assert ids.class_name("0c0330") == "USB controller"
    assert ids.class_name("120000") is None


def test_a_subset_has_the_same_names() -> None:
    small = PciIds(PciIds(TEXT).subset([("10de", "1db4"), ("10df", "0000")], ["030000", "0c0330"]))
    assert small.vendor("10df") == "Next"
    assert small.device("10de", "1db4") == "GV100GL"
    assert small.vendor("1000") is None
    assert small.class_name("030000") == "VGA compatible controller"


def test_a_machine_without_the_file_has_no_names(tmp_path) -> None:
    assert load(Tree(tmp_path)).vendor("8086") is None

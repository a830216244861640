"""Distributions that agents are installed on, each with the family whose differences it shares."""

from __future__ import annotations

from mn.fleet.survey import HostSurvey

FAMILIES = {
    "debian": "debian",
    "ubuntu": "ubuntu",
    "rhel": "rhel",
    "centos": "rhel",
    "rocky": "rhel",
    "almalinux": "rhel",
    "ol": "rhel",
    "openeuler": "openeuler",
}
"""What os-release calls a distribution, or is like, in lower case, and the file of its differences."""

KNOWN = "Debian 12, Ubuntu 22.04 or 24.04, RHEL 9 or what is built from it, openEuler 22.03 or 24.03"


def family(survey: HostSurvey) -> str | None:
    """Return the family of a host's distribution, None when agents are not installed on it."""
    names = (survey.distribution, *survey.distribution_like)
    return next((FAMILIES[name.lower()] for name in names if name.lower() in FAMILIES), None)

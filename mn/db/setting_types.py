"""What kinds of settings in the database there are: numbers, switches, choices."""

from __future__ import annotations

from dataclasses import dataclass

from agentkit.errors import Blame, HardpointError


@dataclass(frozen=True)
class GlobalSetting:
    """One setting: a number from `least` to `most` of `unit`."""

    category: str
    name: str
    default: float
    least: float
    most: float
    unit: str
    meaning: str
    whole: bool = True

    @property
    def description(self) -> str:
        """The setting in words."""
        kind = "whole number" if self.whole else "number"
        return f"{self.meaning}; {kind} of {self.unit} from {self.least:g} to {self.most:g}"

    def parse(self, text: str) -> float:
        """Return the number of a text. Raises HardpointError (SYS.1007) when it is none or out of range."""
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not self.least <= value <= self.most or (self.whole and value != int(value)):
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                f"'{text}' is no value of the setting {self.category} {self.name}",
                remedy=f"give a {self.description.partition('; ')[2]}",
                blame=Blame.CALLER,
            )
        return value

    def text(self, value: float) -> str:
        """Return a number as the API shows it."""
        return str(int(value)) if self.whole else f"{value:g}"


@dataclass(frozen=True)
class Switch(GlobalSetting):
    """A setting that is true (1) or false (0)."""

    @property
    def description(self) -> str:
        """The setting in words."""
        return f"{self.meaning}; true or false"

    def parse(self, text: str) -> float:
        """Return 1 or 0. Raises HardpointError (SYS.1007) for what is neither `true` nor `false`."""
        value = {"true": 1.0, "false": 0.0}.get(text.strip().lower())
        if value is None:
            raise HardpointError(
                "SYS.1007",
                "Invalid argument",
                f"'{text}' is no value of the setting {self.category} {self.name}",
                remedy="give true or false",
                blame=Blame.CALLER,
            )
        return value

    def text(self, value: float) -> str:
        """Return `true` or `false`."""
        return "true" if value else "false"


@dataclass(frozen=True)
class Choice(GlobalSetting):
    """A setting that is one of some words; its number is the word's place among them."""

    words: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """The setting in words."""
        return f"{self.meaning}; {' or '.join(self.words)}"

    def parse(self, text: str) -> float:
        """Return the place of a word. Raises HardpointError (SYS.1007) for another one."""
        if text.strip() in self.words:
            return float(self.words.index(text.strip()))
        raise HardpointError(
            "SYS.1007",
            "Invalid argument",
            f"'{text}' is no value of the setting {self.category} {self.name}",
            remedy=f"give {' or '.join(self.words)}",
            blame=Blame.CALLER,
        )

    def text(self, value: float) -> str:
        """Return the word of a place."""
        return self.words[int(value)]


def switch(category: str, name: str, *, default: bool, meaning: str) -> Switch:
    """Return a setting that is true or false."""
    return Switch(category, name, float(default), 0, 1, "", meaning)

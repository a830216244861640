"""Updates of the operating system: apt and dnf behind one contract, in a process that outlives the agent."""

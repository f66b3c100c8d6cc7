"""What may be done when: one TOML file of modes, budgets and limits, and pure rules over incidents and past acts."""

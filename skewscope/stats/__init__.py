"""Small pure numpy statistics: robust location and spread, change points, interval arithmetic."""

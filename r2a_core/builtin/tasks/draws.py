"""The tasks by name, each with its way to draw a problem."""

from r2a_core.builtin.tasks import comparison_draws, days, legs, orders, ranking, stories, swaps

TASKS = {
    "stories": stories.draw,
    "comparisons": comparison_draws.draw,
    "days": days.draw,
    "legs": legs.draw,
    "ranking": ranking.draw,
    "orders": orders.draw,
    "swaps": swaps.draw,
}

"""The tasks by name, each with its way to draw a problem."""

from r2a_core.builtin.tasks import comparison_draws, days, orders, stories, swaps

TASKS = {
    "stories": stories.draw,
    "comparisons": comparison_draws.draw,
    "days": days.draw,
    "orders": orders.draw,
    "swaps": swaps.draw,
    "bystander": swaps.draw_bystander,
    "two_people": orders.draw_two,
}

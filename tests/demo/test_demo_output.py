"""What the demo shows of the hub's log."""

import pytest

from profile_spawner.demo.output import noteworthy

NOW = "2026-11-20 23:49:18.768 JupyterHub"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"[I {NOW} reload:165] Profiles: generation 2: added: lab", "Profiles: generation 2: added: lab"),
        (f"[E {NOW} reload:162] Profiles: a.py:2: SyntaxError", "Profiles: a.py:2: SyntaxError"),
        (f"[E {NOW} spawner:9] grace could not be started", f"[E {NOW} spawner:9] grace could not be started"),
        (f"[I {NOW} log:192] 200 GET /hub/api", ""),
        (f"[W {NOW} web:1873] 403 GET /hub/admin", ""),
        (f"[C {NOW} app:4035] Received signal SIGTERM, initiating shutdown...", ""),
        ("    Traceback (most recent call last):", ""),
        ("", ""),
    ],
)
def test_the_console_shows_profiles_and_what_went_wrong(line, shown):
    """Reloads and errors are shown, requests and what every demo warns of are not."""
    assert noteworthy(line) == shown

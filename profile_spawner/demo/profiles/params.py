"""Values that the demo's profiles share. `profile-spawner explain` says where each one comes from."""

from profile_spawner import Param, profile_registry

profile_registry.register_param(
    Param(
        "lab/threads",
        schema={"type": "integer", "minimum": 1, "maximum": 8},
        default=1,
        user_settable=True,
        description="How many threads numerical libraries may use.",
        meta={"title": "Threads"},
    )
)
profile_registry.register_param(
    Param("course/name", schema={"type": "string"}, default="", description="What is shown in the terminal.")
)
profile_registry.register_param(
    Param("hub/environment", schema={"enum": ["demo", "staging", "production"]}, default="demo")
)

# For everybody, unless something more specific says otherwise.
profile_registry.register_collection("global", {"course/name": "Introduction to Python", "lab/threads": 2})

# A mixin: profiles take it on by naming it in `profiles`.
profile_registry.register_collection("accelerated", {"lab/threads": 4})

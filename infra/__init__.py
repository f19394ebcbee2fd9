"""The outside world: settings, database, embedded servers, carriers."""

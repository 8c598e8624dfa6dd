"""Real engines, started and stopped: from installed packages and binaries where they exist, by docker compose else."""

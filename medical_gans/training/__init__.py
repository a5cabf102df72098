"""The trainer of every workflow: epochs, resume, alarms, checkpoints, schedules, validation."""

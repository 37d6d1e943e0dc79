"""Arithmetic that isn't PPO's own: statistics, schedules, random keys, arrays over several devices."""

"""Reports: one self-contained page of HTML about runs (`ppo2 report`), and the same page live (`ppo2 watch`)."""

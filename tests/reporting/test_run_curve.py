"""Run directories, read as learning curves."""

import numpy as np
import pytest

from ppo2.reporting.episode_file import facts_line, with_share
from ppo2.reporting.run_curve import read_run
from support.runs import write_monitor


def test_timesteps_are_those_of_all_environments(tmp_path):
    # Environment 0 ends episodes at its steps 3 and 8, environment 1 at its steps 4 and 10: times 2 environments.
    run = read_run(write_monitor(tmp_path, "r,l,t,env\n1,3,0,0\n2,4,0,1\n3,5,0,0\n4,6,0,1\n"))
    np.testing.assert_array_equal(run.timesteps, [6, 8, 16, 20])
    np.testing.assert_array_equal(run.returns, [1, 2, 3, 4])


def test_environments_without_a_finished_episode_count(tmp_path):
    # 400 timesteps in 100 steps of each: 4 environments, though only number 1 has finished an episode.
    progress = "misc/serial_timesteps,misc/total_timesteps\n50,200\n100,400\n"
    run = read_run(write_monitor(tmp_path, "r,l,t,env\n1,30,0,1\n1,50,0,1\n", progress))
    np.testing.assert_array_equal(run.timesteps, [120, 320])


def test_lengths_that_count_frames_are_scaled_to_timesteps(tmp_path):
    # 2 environments, 4 frames a step: after 100 timesteps an episode of 200 frames has ended in each
    progress = "misc/serial_timesteps,misc/total_timesteps,misc/time_elapsed\n50,100,9\n"
    run = read_run(write_monitor(tmp_path, "r,l,t,env\n1,100,4,0\n1,200,8,1\n2,100,9,0\n", progress))
    np.testing.assert_array_equal(run.timesteps, [50, 100, 100])


def test_episodes_come_in_the_order_of_timesteps(tmp_path):
    run = read_run(write_monitor(tmp_path, "r,l,t,env\n1,9,0,1\n2,4,0,0\n"))
    np.testing.assert_array_equal(run.timesteps, [8, 18])
    np.testing.assert_array_equal(run.returns, [2, 1])


def test_timesteps_of_a_part_of_the_episodes_are_those_of_the_clock(tmp_path):
    # 100 timesteps in the first 10 seconds, 300 in the next 10: 50 after 5, 250 after 15. What ended after the last row
    # of progress.csv is at that row's timesteps.
    progress = "misc/serial_timesteps,misc/total_timesteps,misc/time_elapsed\n50,100,10\n200,400,20\n"
    run = read_run(write_monitor(tmp_path, "r,l,t,env\n1,3,5,0\n2,4,10,1\n3,5,15,0\n4,6,21,1\n", progress))
    assert run.timesteps.tolist() == [6, 8, 16, 20]  # every episode is there: by their lengths
    path = tmp_path / "monitor.csv"
    path.write_text(with_share(facts_line("X-v0", 0.0), 0.25) + path.read_text())
    run = read_run(tmp_path)
    np.testing.assert_array_equal(run.timesteps, [50, 100, 250, 400])
    np.testing.assert_array_equal(run.returns, [1, 2, 3, 4])


def test_a_run_that_is_being_written_can_be_read(tmp_path):
    progress = "misc/nupdates,eval_eprewmean\n1,\n2,nan\n3,7.5\n4,"
    run = read_run(write_monitor(tmp_path, "r,l,t,env\n1,3,0,0\n2,4", progress))
    np.testing.assert_array_equal(run.returns, [1])
    np.testing.assert_array_equal(run.progress["eval_eprewmean"], [np.nan, np.nan, 7.5])
    assert run.config == {}


def test_errors_name_the_directory(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist. A run directory is what `run_dir`"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no monitor.csv: .*monitor.csv. A run directory is"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match=r"monitor.csv is damaged: .*'x'"):
        read_run(write_monitor(tmp_path / "damaged", "r,l,t,env\n1,x,0,0\n"))
    with pytest.raises(ValueError, match=r"monitor.csv is damaged"):
        read_run(write_monitor(tmp_path / "ragged", "r,l,t,env\n1,2,0\n1,2,0,0\n"))
    with pytest.raises(ValueError, match=r"monitor.csv lacks the columns env$"):
        read_run(write_monitor(tmp_path / "baselines", "r,l,t\n1,2,0\n"))

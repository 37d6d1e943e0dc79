"""`--until-solved`."""

from types import SimpleNamespace

from ppo2.cli.until_solved import UntilSolved


def test_verdict():
    solved = UntilSolved("CartPole-v1", 1e6)
    assert solved(1, None, SimpleNamespace(eprewmean=474.9, episodes=200)) is True  # goes on
    assert solved.verdict() == "not solved: the mean return did not reach the threshold of 475"
    assert solved(2, None, SimpleNamespace(eprewmean=475.0, episodes=99)) is True
    assert solved.verdict() == "not solved: the mean return did not reach the threshold of 475 in 100 episodes"
    assert solved(3, None, SimpleNamespace(eprewmean=475.0, episodes=100)) is False
    assert solved.verdict() == "solved: the mean return of 475.0 reaches the threshold of 475"


def test_long_episodes_of_before_do_not_hold_the_verdict_up():
    """5 % of 100,000 timesteps: 10 episodes of 500."""

    def stats(returns, length):
        last = [SimpleNamespace(r=float(r), l=length) for r in returns]
        return SimpleNamespace(eprewmean=sum(returns) / len(returns), episodes=len(returns), last=last)

    solved = UntilSolved("CartPole-v1", 100_000)
    assert solved(1, None, stats([100] * 60 + [500] * 9, 500)) is True
    assert (
        solved(2, None, stats([100] * 60 + [480, 400, 500, 500, 400, 500, 500, 500, 500, 480], 500)) is True
    )  # chance
    assert solved(3, None, stats([480] * 9, 500)) is True
    assert solved(4, None, stats([100] * 60 + [500] * 10, 500)) is False
    assert solved.verdict() == "solved: the mean return of 500.0 reaches the threshold of 475"
    short = UntilSolved("CartPole-v1", 100_000)
    assert short(1, None, stats([490] * 99, 50)) is True  # the last 100 are recent

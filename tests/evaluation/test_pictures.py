import numpy as np
import pytest

from ppo2.evaluation.pictures import GAP, LEAST_SIDE, MOST_SIDE, Mosaic, as_picture, fitted

GREY = np.full((4, 6), 100, np.uint8)


@pytest.mark.parametrize(
    ("frame", "pixel"),
    [
        (np.full((4, 6, 3), 7, np.uint8), [7, 7, 7]),
        (np.full((4, 6, 4), 7, np.uint8), [7, 7, 7]),  # with alpha
        (GREY, [100, 100, 100]),
        (GREY[..., None], [100, 100, 100]),
        (np.full((3, 4, 6), 9, np.uint8), [9, 9, 9]),  # channels first
        (np.full((4, 6, 3), 0.5), [127, 127, 127]),  # 0.5 * 255, cut
        (np.full((4, 6, 3), 200.7), [200, 200, 200]),
        (np.full((4, 6, 3), np.nan), [0, 0, 0]),
        (np.full((4, 6, 3), 300, np.int64), [255, 255, 255]),
        (np.ones((4, 6), bool), [255, 255, 255]),
        ([GREY, np.full((4, 6), 3, np.uint8)], [3, 3, 3]),  # of "rgb_array_list": the newest
    ],
)
def test_frames_of_every_kind_are_bytes_of_three_colours(frame, pixel):
    picture = as_picture(frame)
    assert picture.dtype == np.uint8
    assert picture.shape == (4, 6, 3)
    assert picture[0, 0].tolist() == pixel


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (None, "`render` gave None"),
        ("board", "`render` gave 'board', which is no picture"),
        (np.zeros((5, 6, 2)), r"an array of shape \(5, 6, 2\)"),
        (np.zeros((0, 6, 3)), r"an array of shape \(0, 6, 3\)"),
        ([], r"an array of shape \(0,\)"),
    ],
)
def test_what_is_no_picture(frame, words):
    with pytest.raises(ValueError, match=words):
        as_picture(frame)


def test_another_size_is_put_into_the_middle():
    """4 x 6 into 8 x 6: two black rows above and below; 8 x 12 into 4 x 4: 2.67 rows, cut to 2, of 4 columns."""
    picture = np.full((4, 6, 3), 255, np.uint8)
    assert fitted(picture, 8, 6)[:, 0, 0].tolist() == [0, 0, 255, 255, 255, 255, 0, 0]
    assert fitted(np.full((8, 12, 3), 255, np.uint8), 4, 4)[:, 0, 0].tolist() == [0, 255, 255, 0]


def test_a_grid():
    """Three pictures of 300 x 200: two columns, two rows, the last place black."""
    pictures = [np.full((300, 200, 3), 100 + i, np.uint8) for i in range(3)]
    whole = Mosaic(pictures).of(pictures, [False, True, False])
    assert whole.shape == (600 + GAP, 400 + GAP, 3)
    corners = [whole[0, 0, 0], whole[0, -1, 0], whole[-1, 0, 0], whole[-1, -1, 0]]
    assert corners == [100, 50, 102, 0]  # the second dimmed: 101 // 2


def test_small_pictures_are_enlarged_and_large_ones_made_smaller():
    small = [np.zeros((10, 10, 3), np.uint8)]
    assert Mosaic(small).of(small, [False]).shape == (LEAST_SIDE, LEAST_SIDE, 3)
    large = [np.zeros((1000, 2560, 3), np.uint8)]
    assert Mosaic(large).of(large, [False]).shape == (MOST_SIDE * 1000 // 2560, MOST_SIDE, 3)

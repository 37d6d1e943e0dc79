"""Pictures: what `render` gives as arrays (height, width, 3) of bytes, of one size, several beside one another."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

NDArray = np.ndarray[Any, Any]

LEAST_SIDE = 240
"""Pixels of the longer side below which a small picture is enlarged, by a whole number."""
MOST_SIDE = 1280
"""Pixels of the longer side above which pictures are made smaller."""
GAP = 4
"""Pixels between two pictures."""


def as_picture(frame: Any) -> NDArray:
    """A frame of an environment: colours, with or without alpha, or shades of grey; of bytes, or of floats up to 1.

    Raises:
        ValueError: it is no picture.
    """
    if isinstance(frame, list | tuple) and frame and np.ndim(frame[-1]) in (2, 3):  # of "rgb_array_list"
        frame = frame[-1]
    if frame is None:
        raise ValueError("`render` gave None; of an environment with render_mode 'rgb_array' it must give a picture")
    array = np.asarray(frame)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`render` gave {str(frame)[:60]!r}, which is no picture: an array (height, width, 3) of bytes"
        )
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):  # channels first
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ValueError(f"`render` gave an array of shape {np.shape(frame)}; a picture is (height, width, 3)")
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, posinf=0.0, neginf=0.0)
        array = array * 255 if array.max() <= 1 else array
    elif array.dtype == bool:
        array = array * np.uint8(255)
    array = array if array.dtype == np.uint8 else np.clip(array, 0, 255).astype(np.uint8)
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else np.ascontiguousarray(array[..., :3])


def resized(picture: NDArray, height: int, width: int) -> NDArray:
    """A picture of another size: enlarged by repeated pixels, or made smaller by means."""
    if picture.shape[:2] == (height, width):
        return picture
    from PIL import Image  # comes with matplotlib

    how = Image.Resampling.NEAREST if height >= picture.shape[0] else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture).resize((width, height), how))


def fitted(picture: NDArray, height: int, width: int) -> NDArray:
    """A picture in the middle of another size, on black, made smaller where it is larger."""
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(1.0, height / picture.shape[0], width / picture.shape[1])
    picture = resized(picture, max(1, int(picture.shape[0] * scale)), max(1, int(picture.shape[1] * scale)))
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    whole = np.zeros((height, width, 3), np.uint8)
    whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return whole


class Mosaic:
    """Puts so many pictures beside one another, in rows as long as there are rows, or one longer.

    All are of the size of the largest of the first ones; small ones are enlarged, and what would be larger than
    MOST_SIDE is made smaller.
    """

    def __init__(self, first: Sequence[NDArray]) -> None:
        self.columns = math.ceil(math.sqrt(len(first)))
        self.rows = math.ceil(len(first) / self.columns)
        self._height, self._width = (max(picture.shape[axis] for picture in first) for axis in (0, 1))
        longer = max(self._height * self.rows, self._width * self.columns)
        scale = float(max(1, LEAST_SIDE // longer)) if longer < LEAST_SIDE else min(1.0, MOST_SIDE / longer)
        self._cell = tuple(max(1, round(side * scale)) for side in (self._height, self._width))

    def of(self, pictures: Sequence[NDArray], dimmed: Sequence[bool]) -> NDArray:
        """One picture of all; those that are `dimmed` at half their light."""
        height, width = self._cell
        shape = (self.rows * (height + GAP) - GAP, self.columns * (width + GAP) - GAP, 3)
        whole = np.zeros(shape, np.uint8)
        for i, picture in enumerate(pictures):
            row, column = divmod(i, self.columns)
            top, left = row * (height + GAP), column * (width + GAP)
            cell = resized(fitted(picture, self._height, self._width), height, width)
            whole[top : top + height, left : left + width] = cell // 2 if dimmed[i] else cell
        return whole

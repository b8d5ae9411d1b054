"""Keys by name."""

import jax
import numpy as np

from unified_diffusion.keys import named_key


def test_one_key_for_each_seed_and_name():
    data = [jax.random.key_data(named_key(*pair)).tolist() for pair in [(0, "a"), (0, "b"), (1, "a"), (1, "b")]]
    assert len({tuple(key) for key in data}) == 4
    np.testing.assert_array_equal(jax.random.key_data(named_key(0, "a")), data[0])


def test_keys_are_the_same_in_every_process():
    # crc32, not hash(), which Python salts anew in each process
    expected = jax.random.fold_in(jax.random.key(5), 970651846)
    assert named_key(5, "sampling") == expected

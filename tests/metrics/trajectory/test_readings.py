"""What each channel says of itself, for all who show or judge it."""

from metrics.trajectory.readings import CHANNELS


def test_each_channel_has_words_a_direction_and_is_whole_or_a_part_of_a_whole_one() -> None:
    for name, channel in CHANNELS.items():
        assert channel.label.strip(), name
        assert channel.says.strip(), name
        assert channel.worse in (-1, 0, 1), name
        assert channel.part_of is None or CHANNELS[channel.part_of].part_of is None, name

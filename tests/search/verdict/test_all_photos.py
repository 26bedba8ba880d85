"""An epoch of a run on all photos: against the fields of the config, by the numbers of steps in it."""

from search.verdict.all_photos import compare_text, in_passes, on_all_photos, same_point
from trainer.config.config import parse_train_config

CONFIG = parse_train_config(
    {"base": "b", "data": "d", "epochs": 40, "save_every_n_epochs": 4, "lr_scheduler": "cosine_with_restarts",
     "cycle_epochs": 10}
)  # fmt: skip
STEPS = parse_train_config({"base": "b", "data": "d", "epochs": 40, "steps_per_epoch": 60})


def test_the_same_point_lies_between_as_many_steps_and_as_many_epochs() -> None:
    # an epoch on all photos has n / trained times the steps; the onset moves by between the root of that and all of it
    assert same_point(16, 9, 7) == (12, 16)
    assert same_point(16, 8, 0) == (16, 16)
    assert same_point(1, 1, 8) == (1, 1)
    assert same_point(16, 0, 8) == (16, 16)
    assert compare_text(12, 16).startswith("compare epochs 12 to 16:")


def test_epochs_of_so_many_steps_stay_the_same_part_of_a_pass() -> None:
    assert on_all_photos(STEPS, (9, 3)).steps_per_epoch == 80
    assert on_all_photos(STEPS, (9, 3)).model_copy(update={"steps_per_epoch": 60}) == STEPS
    few = STEPS.model_copy(update={"steps_per_epoch": 1})
    assert on_all_photos(few, (9, 1)).steps_per_epoch == 1
    for config, photos in ((STEPS, None), (STEPS, (0, 3)), (CONFIG, (9, 3))):
        assert on_all_photos(config, photos) == config


def test_epochs_are_counted_in_passes_over_all_photos() -> None:
    config, epoch = in_passes(CONFIG, 16, (9, 3))
    assert (config.epochs, config.cycle_epochs, config.save_every_n_epochs, epoch) == (30, 8, 3, 12)
    fields = ("epochs", "cycle_epochs", "save_every_n_epochs")
    assert config.model_copy(update={name: getattr(CONFIG, name) for name in fields}) == CONFIG
    plain = CONFIG.model_copy(update={"cycle_epochs": None})
    assert in_passes(plain, None, (9, 3))[1] is None
    assert in_passes(plain, None, (9, 3))[0].cycle_epochs is None
    assert in_passes(CONFIG, 60, (9, 3))[1] == 30, "not beyond the last epoch"
    assert in_passes(CONFIG, 1, (1, 9)) == (
        CONFIG.model_copy(update={"epochs": 4, "cycle_epochs": 1, "save_every_n_epochs": 1}), 1,
    )  # fmt: skip
    for config, photos in ((STEPS, (9, 3)), (CONFIG, None), (CONFIG, (0, 3))):
        assert in_passes(config, 16, photos) == (config, 16)

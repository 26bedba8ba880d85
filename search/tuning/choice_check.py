"""Whether the sampler and the pruner that a study names can be made, before anything else of it begins."""

from search.errors import StudyError, problem
from search.study.settings import SamplerSection, StopSection
from search.study.study import Study
from trainer.errors import ConfigError


def check_choices(study: Study) -> None:
    """Makes them once. The ones that a study has without a word of its own are not asked, since Optuna loads slowly.

    Raises:
        StudyError: a class that is not there, of another kind, or that does not take its keywords.
    """
    usual, stop = SamplerSection(), StopSection()
    try:
        if (study.sampler.name, study.sampler.arguments) != (usual.name, usual.arguments):
            from search.tuning.sampler import sampler_for

            sampler_for(study.sampler, study.seed, 0, "", study.budget.startup)
        if (study.stop.pruner, study.stop.pruner_arguments) != (stop.pruner, stop.pruner_arguments):
            from search.tuning.pruner_by_name import pruner_for

            pruner_for(study.stop)
    except ConfigError as error:
        raise StudyError([problem(study.source, error.key, error.value, error.expected, error.why)]) from None

"""`tuner best`: the best config of a study."""

from __future__ import annotations

from tuner.cli.common import AsJson, Storage, StudyName, print_json


def best(study: StudyName, storage: Storage = None, as_json: AsJson = False) -> None:
    """Show the best trial's config and operating point, and the gain over the default config."""
    import typer

    from tuner.cli.show import print_config, trial_json
    from tuner.cli.summary import next_commands, print_findings
    from tuner.config.errors import StudyError
    from tuner.studies.study import open_study

    opened = open_study(study, storage)
    trial = opened.best()
    found = opened.summary()
    if trial is None:
        raise StudyError(f"study {study!r} has no complete trial yet", hint=f"See how it stands: tuner status {study}")
    if as_json:
        print_json(trial_json(trial) | {"study": study, "default_value": found.default_value})
        return
    print_findings(found)
    print_config(trial)
    for line in next_commands(opened):
        typer.echo(line)

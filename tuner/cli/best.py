"""`tuner best`: the best config of a study."""

from __future__ import annotations

from tuner.cli.common import AsJson, Storage, StudyName, metric_number, print_json


def best(study: StudyName, storage: Storage = None, as_json: AsJson = False) -> None:
    """Show the best trial's config and operating point, and the gain over the default config.

    Where `tuner confirm` has found a winner, that config, which `tuner export` takes. With several objectives also
    the Pareto front. The best trial keeps the study's constraints.
    """
    import typer

    from tuner.cli.show import print_config, trial_json
    from tuner.cli.summary import next_commands, print_findings
    from tuner.cli.tables import aligned
    from tuner.cli.trust import print_trust, shown_gain, trust_json, trust_of
    from tuner.config.errors import StudyError
    from tuner.storage.urls import storage_option
    from tuner.studies.opening import open_study
    from tuner.studies.search.objective import keeping, objective_values
    from tuner.studies.trust.confirm import winner_of

    opened = open_study(study, storage)
    trial = opened.best()
    found = opened.summary()
    if trial is None:
        raise StudyError(
            f"study {study!r} has no complete trial{keeping(opened.spec)} yet",
            hint=f"See how it stands: tuner status {study}{storage_option(opened.database.url)}",
        )
    confirmed = winner_of(opened)
    shown = confirmed or trial
    objectives = opened.spec.objectives
    front = {
        record.number: objective_values(opened.spec, record.metrics)
        for record in (opened.front() if objectives else [])
        if record.metrics is not None
    }
    trust = trust_of(opened)
    gain = shown_gain(found, opened.spec, trust)
    if as_json:
        data = trial_json(shown) | {"study": study, "default_value": found.default_value} | trust_json(trust, gain)
        pareto = [{"number": n, **dict(zip(objectives, values, strict=True))} for n, values in front.items()]
        print_json(data | ({"pareto_front": pareto} if objectives else {}))
        return
    print_findings(found, gain)
    print_trust(trust)
    if confirmed is not None:
        which = f"trial {confirmed.number}{' (default)' if confirmed.is_default else ''}"
        typer.echo(f"config     of {which}, which is confirmed")
    print_config(shown)
    if objectives:
        typer.echo("Pareto front: no other trial is better in all of these")
        rows = [(f"trial {n}", *map(metric_number, objectives, values)) for n, values in front.items()]
        for line in aligned([("", *objectives), *rows]):
            typer.echo(line)
    for line in next_commands(opened):
        typer.echo(line)

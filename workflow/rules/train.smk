# One stage of a run, from the checkpoint of the run without it; the first starts from the network.
rule train:
    input:
        data=lambda wildcards: prepared(PLAN.dataset(run(wildcards))),
        start=lambda wildcards: weights(run(wildcards).start),
        published=lambda wildcards: published_weights(run(wildcards)),
        denoiser=lambda wildcards: weights(PLAN.denoiser(run(wildcards))),
    output:
        weights="train/{run}/model.safetensors",
        card="train/{run}/model.json",
        metrics="train/{run}/metrics.jsonl",
    log:
        "logs/train/{run}.log",
    threads: lambda wildcards: PLAN.schedule(run(wildcards)).processes
    resources:
        gpu=lambda wildcards: PLAN.schedule(run(wildcards)).processes,
        # Not a param: it does not change the result.
        checkpoint_seconds=lambda wildcards: int(PLAN.schedule(run(wildcards)).checkpoint_seconds),
    params:
        spec=lambda wildcards: PLAN.train_spec(run(wildcards)).text,
        # A new objective, or a new noise, is a new file and re-runs nothing.
        code=lambda wildcards: digest(
            "training.loop",
            f"objectives.{PLAN.recipe(run(wildcards)).objective}",
            f"noises.{PLAN.recipe(run(wildcards)).noise}",
        ),
        launch=launch(lambda wildcards: PLAN.schedule(run(wildcards)).processes),
        program="python -m transmooth",
        start=lambda wildcards, input: folder("--start", input.start),
        denoiser=lambda wildcards, input: folder("--denoiser", input.denoiser),
        # A function of `resources`, as `launch` is: where epochs are shown re-runs nothing.
        tracker=lambda wildcards, resources: f"--tracker {PLAN.study.tracker}" if PLAN.study.tracker else "",
    shell:
        "{params.launch} {params.program} job train --spec {params.spec:q} --data $(dirname {input.data})"
        " {params.start} {params.denoiser} {params.tracker} --checkpoint-seconds {resources.checkpoint_seconds}"
        " --out $(dirname {output.weights}) >{log} 2>&1"

# A shard of one evaluation of a run; `finish` makes the records of all of them.
rule evaluate:
    input:
        data=lambda wildcards: prepared(PLAN.dataset(run(wildcards))),
        weights="train/{run}/model.safetensors",
        start=lambda wildcards: weights(PLAN.from_start(run(wildcards), wildcards.evaluation)),
        # The card of the weights says where it is.
        denoiser=lambda wildcards: weights(PLAN.denoiser(run(wildcards))),
    output:
        temp("evaluate/{run}/{evaluation}/{shard}-of-{shards}.parquet"),
    log:
        "logs/evaluate/{run}/{evaluation}/{shard}-of-{shards}.log",
    threads: lambda wildcards: PLAN.processes(wildcards.evaluation)
    resources:
        gpu=lambda wildcards: PLAN.processes(wildcards.evaluation),
        # Not a param: records do not depend on it.
        batch=lambda wildcards: PLAN.batch(wildcards.evaluation),
    params:
        spec=lambda wildcards: evaluate_spec(wildcards.run, wildcards.evaluation),
        code=lambda wildcards: digest(f"evaluation.{PLAN.evaluation(wildcards.evaluation).kind}"),
        launch=launch(lambda wildcards: PLAN.processes(wildcards.evaluation)),
        program="python -m transmooth",
        start=lambda wildcards, input: folder("--start", input.start),
    shell:
        "{params.launch} {params.program} job evaluate --spec {params.spec:q} --data $(dirname {input.data})"
        " --checkpoint $(dirname {input.weights}) {params.start} --batch {resources.batch}"
        " --shard {wildcards.shard}-of-{wildcards.shards} --out {output} >{log} 2>&1"


rule finish:
    input:
        data=lambda wildcards: prepared(PLAN.dataset(run(wildcards))),
        parts=lambda wildcards: PLAN.shard_files(run(wildcards), wildcards.evaluation),
    output:
        "evaluate/{run}/{evaluation}/records.parquet",
    log:
        "logs/finish/{run}/{evaluation}.log",
    localrule: True
    params:
        spec=lambda wildcards: evaluate_spec(wildcards.run, wildcards.evaluation),
        code=lambda wildcards: digest(f"evaluation.{PLAN.evaluation(wildcards.evaluation).kind}"),
    shell:
        "python -m transmooth job finish --spec {params.spec:q} --data $(dirname {input.data}) --out {output}"
        " {input.parts} >{log} 2>&1"

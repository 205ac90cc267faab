rule data:
    input:
        [prepared(dataset) for dataset in PLAN.datasets],


rule prepare:
    output:
        "../../{home}/{dataset}/manifest.json",
    log:
        "logs/prepare/{home}-{dataset}.log",
    params:
        spec=lambda wildcards: PLAN.prepare_spec(wildcards.dataset),
        code=lambda wildcards: digest(
            "data.prepare", f"data.sources.{PLAN.params.datasets[wildcards.dataset].source.kind}"
        ),
    shell:
        "python -m transmooth job prepare --spec {params.spec:q} --base ../.. --out $(dirname {output}) >{log} 2>&1"

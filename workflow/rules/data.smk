rule data:
    input:
        [prepared(dataset) for dataset in PLAN.datasets],


rule prepare:
    output:
        "../../{home}/{dataset}/manifest.json",
    log:
        "logs/prepare/{home}-{dataset}.log",
    params:
        spec=lambda wildcards: PLAN.prepare(wildcards.dataset),
        code=lambda wildcards: code(
            "data/prepare.py",
            "data/picture.py",
            "data/split.py",
            "data/sources/source.py",
            f"data/sources/{PLAN.params.datasets[wildcards.dataset].source.kind}.py",
        ),
    shell:
        "python -m transmooth job prepare --spec {params.spec:q} --base ../.. --out $(dirname {output}) >{log} 2>&1"

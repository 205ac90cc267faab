rule data:
    input:
        expand("<data>/{dataset}/manifest.json", dataset=PLAN.datasets),


rule prepare:
    output:
        "<data>/{dataset}/manifest.json",
    log:
        "logs/prepare/{dataset}.log",
    params:
        spec=lambda wildcards: PLAN.prepare(wildcards.dataset),
        code=code("data/prepare.py", "data/picture.py", "data/split.py", "data/sources/*.py"),
    shell:
        "python -m transmooth job prepare --spec {params.spec:q} --base ../.. --out $(dirname {output}) >{log} 2>&1"

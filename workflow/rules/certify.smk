rule certify:
    input:
        data=lambda wildcards: prepared(wildcards.dataset),
        weights="finetune/{pretrain}/{dataset}/{finetune}/{seed}/model.safetensors",
    output:
        temp("certify/{pretrain}/{dataset}/{finetune}/{seed}/{scatteritem}.parquet"),
    log:
        "logs/certify/{pretrain}-{dataset}-{finetune}-{seed}-{scatteritem}.log",
    threads: STUDY.certify.processes
    resources:
        gpu=STUDY.certify.processes,
        # Not a param: records do not depend on it.
        batch=STUDY.certify.batch,
    params:
        spec=lambda wildcards: PLAN.certify(wildcards.dataset),
        code=code(
            "noise.py",
            "models/*.py",
            "smoothing/bounds.py",
            "smoothing/decision.py",
            "smoothing/cohen.py",
            "smoothing/sequential.py",
            "smoothing/adaptive.py",
            "smoothing/methods.py",
            "smoothing/sampler.py",
            "smoothing/deploy.py",
            "smoothing/chunks.py",
            "data/loader.py",
            "data/augment.py",
            "jobs.py",
        ),
        launch=launch(STUDY.certify.processes),
        program="python -m transmooth",
    shell:
        "{params.launch} {params.program} job certify --spec {params.spec:q} --data $(dirname {input.data}) --batch {resources.batch}"
        " --checkpoint $(dirname {input.weights}) --shard {wildcards.scatteritem} --out {output} >{log} 2>&1"


rule merge:
    input:
        data=lambda wildcards: prepared(wildcards.dataset),
        parts=gather.shards("certify/{{pretrain}}/{{dataset}}/{{finetune}}/{{seed}}/{scatteritem}.parquet"),
    output:
        "certify/{pretrain}/{dataset}/{finetune}/{seed}/records.parquet",
    log:
        "logs/merge/{pretrain}-{dataset}-{finetune}-{seed}.log",
    localrule: True
    params:
        spec=lambda wildcards: PLAN.certify(wildcards.dataset),
        code=code("records/table.py"),
    shell:
        "python -m transmooth job merge --spec {params.spec:q} --data $(dirname {input.data}) --out {output}"
        " {input.parts} >{log} 2>&1"

rule pretrain:
    input:
        data=lambda wildcards: prepared(PLAN.upstream(wildcards.pretrain)),
    output:
        weights="pretrain/{pretrain}/{seed}/model.safetensors",
        card="pretrain/{pretrain}/{seed}/model.json",
        metrics="pretrain/{pretrain}/{seed}/metrics.jsonl",
    log:
        "logs/pretrain/{pretrain}-{seed}.log",
    threads: STUDY.pretrain.processes
    resources:
        gpu=STUDY.pretrain.processes,
        # Not a param: it does not change the result.
        checkpoint_seconds=int(STUDY.pretrain.checkpoint_seconds),
    params:
        spec=lambda wildcards: PLAN.pretrain(wildcards.pretrain, int(wildcards.seed)),
        code=lambda wildcards: train_code(PLAN.params.recipes.pretrain[wildcards.pretrain].objective),
        launch=launch(STUDY.pretrain.processes),
        program="python -m transmooth",
    shell:
        "{params.launch} {params.program} job train --spec {params.spec:q} --data $(dirname {input.data})"
        " --checkpoint-seconds {resources.checkpoint_seconds} --out $(dirname {output.weights}) >{log} 2>&1"

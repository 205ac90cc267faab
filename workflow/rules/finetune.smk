rule finetune:
    input:
        data=lambda wildcards: prepared(wildcards.dataset),
        init=start,
    output:
        weights="finetune/{pretrain}/{dataset}/{finetune}/{seed}/model.safetensors",
        card="finetune/{pretrain}/{dataset}/{finetune}/{seed}/model.json",
        metrics="finetune/{pretrain}/{dataset}/{finetune}/{seed}/metrics.jsonl",
    log:
        "logs/finetune/{pretrain}-{dataset}-{finetune}-{seed}.log",
    threads: STUDY.finetune.processes
    resources:
        gpu=STUDY.finetune.processes,
        checkpoint_seconds=int(STUDY.finetune.checkpoint_seconds),
    params:
        spec=lambda wildcards: PLAN.finetune(run_of(wildcards)),
        code=lambda wildcards: train_code(PLAN.params.recipes.finetune[wildcards.finetune].objective),
        launch=launch(STUDY.finetune.processes),
        program="python -m transmooth",
        init=lambda wildcards, input: (f"--init $(dirname {input.init})" if input.init else ""),
    shell:
        "{params.launch} {params.program} job train --spec {params.spec:q} --data $(dirname {input.data}) {params.init}"
        " --checkpoint-seconds {resources.checkpoint_seconds} --out $(dirname {output.weights}) >{log} 2>&1"

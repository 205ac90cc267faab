rule table:
    input:
        records=lambda wildcards: records_of(wildcards.table),
        cards=lambda wildcards: cards_of(wildcards.table),
        logs=lambda wildcards: PLAN.logs_of(wildcards.table, ROOT),
        published="<params>/published.csv",
    output:
        csv="tables/{table}.csv",
        markdown=report(
            "tables/{table}.md", category="Tables", caption="../report/table.rst", labels={"table": "{table}"}
        ),
        metrics="metrics/{table}.json",
    log:
        "logs/table/{table}.log",
    localrule: True
    params:
        spec=lambda wildcards: PLAN.table(wildcards.table),
        code=code("report/accuracy.py", "report/tables.py", "smoothing/bounds.py", "records/logs.py"),
    shell:
        "python -m transmooth job table --spec {params.spec:q} --results . --base ../.. --published {input.published}"
        " --out tables/{wildcards.table} --metrics {output.metrics} >{log} 2>&1"


rule figure:
    input:
        records=lambda wildcards: records_of(wildcards.figure),
        cards=lambda wildcards: cards_of(wildcards.figure),
    output:
        svg=report(
            "figures/{figure}.svg", category="Figures", caption="../report/figure.rst", labels={"figure": "{figure}"}
        ),
        png="figures/{figure}.png",
        csv="figures/{figure}.csv",
    log:
        "logs/figure/{figure}.log",
    localrule: True
    params:
        spec=lambda wildcards: PLAN.figure(wildcards.figure),
        code=code("report/accuracy.py", "report/figures.py", "smoothing/bounds.py"),
    shell:
        "python -m transmooth job figure --spec {params.spec:q} --results . --out figures/{wildcards.figure} >{log} 2>&1"


rule gap:
    input:
        weights=lambda wildcards: networks_of(wildcards.gap),
        data=lambda wildcards: sorted({prepared(run.dataset) for run in PLAN.runs_of(wildcards.gap)}),
    output:
        csv="tables/{gap}.csv",
        markdown=report("tables/{gap}.md", category="Tables", caption="../report/gap.rst", labels={"table": "{gap}"}),
        svg=report("figures/{gap}.svg", category="Figures", caption="../report/gap.rst", labels={"figure": "{gap}"}),
        png="figures/{gap}.png",
    log:
        "logs/gap/{gap}.log",
    params:
        spec=lambda wildcards: PLAN.gap(wildcards.gap),
        code=code("evaluation/shift.py", "report/shift.py", "noise.py", "models/*.py", "data/loader.py"),
        data=lambda wildcards, input: [f"--data {os.path.dirname(path)}" for path in input.data],
    shell:
        "python -m transmooth job gap --spec {params.spec:q} --results . {params.data}"
        " --out tables/{wildcards.gap} --figure figures/{wildcards.gap} >{log} 2>&1"


rule training:
    input:
        metrics=[f"{folder}/metrics.jsonl" for folder in PLAN.trainings],
        cards=[f"{folder}/model.json" for folder in PLAN.trainings],
    output:
        "metrics/training.csv",
    log:
        "logs/training.log",
    localrule: True
    params:
        runs=PLAN.trainings,
        code=code("report/training.py"),
    shell:
        "python -m transmooth job training --out {output} {params.runs} >{log} 2>&1"


rule report:
    input:
        tables=expand("tables/{table}.csv", table=[*PLAN.tables, *PLAN.gaps]),
        records=[f"certify/{run.path}/records.parquet" for run in PLAN.runs],
        cards=[f"{folder}/model.json" for folder in PLAN.trainings],
        training="metrics/training.csv",
        data=[prepared(dataset) for dataset in PLAN.datasets],
        logs=[log for table in PLAN.tables for log in PLAN.logs_of(table, ROOT)],
        published="<params>/published.csv",
    output:
        report("report.html", category="Report", caption="../report/page.rst", labels={"study": PLAN.params.name}),
    log:
        "logs/report.log",
    localrule: True
    params:
        spec=PLAN.report(),
        code=code("report/*.py", "report/page/*", "noise.py", "data/loader.py", "smoothing/bounds.py"),
        data=lambda wildcards, input: [f"--data {os.path.dirname(path)}" for path in input.data],
    shell:
        "python -m transmooth job report --spec {params.spec:q} --results . --base ../.. --published {input.published}"
        " {params.data} --out {output} >{log} 2>&1"


# `snakemake table1` and `snakemake figure2`.
for name in [*PLAN.tables, *PLAN.gaps]:

    rule:
        name:
            name
        input:
            f"tables/{name}.md",
        localrule: True


for name in PLAN.figures:

    rule:
        name:
            name
        input:
            f"figures/{name}.svg",
        localrule: True

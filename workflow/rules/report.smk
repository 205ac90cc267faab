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
        spec=lambda wildcards: PLAN.table_spec(wildcards.table).text,
        code=digest("report.tables"),
    shell:
        "python -m transmooth job table --spec {params.spec:q} --results . --base ../.. --published {input.published}"
        " --out tables/{wildcards.table} --metrics {output.metrics} >{log} 2>&1"


rule figure:
    input:
        records=lambda wildcards: records_of(wildcards.figure),
        cards=lambda wildcards: cards_of(wildcards.figure),
        logs=lambda wildcards: PLAN.logs_of(wildcards.figure, ROOT),
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
        spec=lambda wildcards: PLAN.figure_spec(wildcards.figure).text,
        code=digest("report.figures"),
    shell:
        "python -m transmooth job figure --spec {params.spec:q} --results . --base ../.. --out figures/{wildcards.figure}"
        " >{log} 2>&1"


rule shift:
    input:
        records=lambda wildcards: records_of(wildcards.shift),
    output:
        csv="tables/{shift}.csv",
        markdown=report(
            "tables/{shift}.md", category="Tables", caption="../report/shift.rst", labels={"table": "{shift}"}
        ),
        svg=report(
            "figures/{shift}.svg", category="Figures", caption="../report/shift.rst", labels={"figure": "{shift}"}
        ),
        png="figures/{shift}.png",
    log:
        "logs/shift/{shift}.log",
    localrule: True
    params:
        spec=lambda wildcards: PLAN.shift_spec(wildcards.shift).text,
        code=digest("report.shift"),
    shell:
        "python -m transmooth job shift --spec {params.spec:q} --results . --out tables/{wildcards.shift}"
        " --figure figures/{wildcards.shift} >{log} 2>&1"


rule course:
    input:
        metrics=lambda wildcards: [f"train/{run.path}/metrics.jsonl" for run in PLAN.runs_of(wildcards.course)],
        cards=lambda wildcards: cards_of(wildcards.course),
    output:
        svg=report(
            "figures/{course}.svg", category="Figures", caption="../report/course.rst", labels={"figure": "{course}"}
        ),
        png="figures/{course}.png",
        csv="figures/{course}.csv",
    log:
        "logs/course/{course}.log",
    localrule: True
    params:
        spec=lambda wildcards: PLAN.course_spec(wildcards.course).text,
        code=digest("report.courses"),
    shell:
        "python -m transmooth job course --spec {params.spec:q} --results . --out figures/{wildcards.course} >{log} 2>&1"


rule gain:
    input:
        records=lambda wildcards: records_of(wildcards.gain),
        cards=lambda wildcards: cards_of(wildcards.gain),
        logs=lambda wildcards: PLAN.logs_of(wildcards.gain, ROOT),
    output:
        svg=report("figures/{gain}.svg", category="Figures", caption="../report/gain.rst", labels={"figure": "{gain}"}),
        png="figures/{gain}.png",
        csv="figures/{gain}.csv",
    log:
        "logs/gain/{gain}.log",
    localrule: True
    params:
        spec=lambda wildcards: PLAN.gains_spec(wildcards.gain).text,
        code=digest("report.gains"),
    shell:
        "python -m transmooth job gain --spec {params.spec:q} --results . --base ../.. --out figures/{wildcards.gain}"
        " >{log} 2>&1"


rule training:
    input:
        metrics=[f"train/{path}/metrics.jsonl" for path in PLAN.runs],
        cards=[f"train/{path}/model.json" for path in PLAN.runs],
    output:
        "metrics/training.csv",
    log:
        "logs/training.log",
    localrule: True
    params:
        runs=[f"train/{path}" for path in PLAN.runs],
        code=digest("report.training"),
    shell:
        "python -m transmooth job training --out {output} {params.runs} >{log} 2>&1"


rule report:
    input:
        tables=expand("tables/{table}.csv", table=[*PLAN.tables, *PLAN.shifts]),
        courses=expand("figures/{course}.csv", course=[*PLAN.courses, *PLAN.gains]),
        records=[PLAN.records(run, evaluation) for run, evaluation in PLAN.evaluations],
        cards=[f"train/{path}/model.json" for path in PLAN.runs],
        training="metrics/training.csv",
        data=[prepared(dataset) for dataset in PLAN.datasets],
        logs=[log for report in PLAN.study.report for log in PLAN.logs_of(report, ROOT)],
        published="<params>/published.csv",
    output:
        report("report.html", category="Report", caption="../report/page.rst", labels={"study": PLAN.params.name}),
    log:
        "logs/report.log",
    localrule: True
    params:
        spec=PLAN.page_spec().text,
        code=digest("report.page.study", *(f"report/page/report.{kind}" for kind in ("html", "css", "js"))),
        data=lambda wildcards, input: [f"--data {os.path.dirname(path)}" for path in input.data],
    shell:
        "python -m transmooth job report --spec {params.spec:q} --results . --base ../.. --published {input.published}"
        " {params.data} --out {output} >{log} 2>&1"


# `snakemake table1` and `snakemake figure2`.
for name in [*PLAN.tables, *PLAN.shifts]:

    rule:
        name:
            name
        input:
            f"tables/{name}.md",
        localrule: True


for name in [*PLAN.figures, *PLAN.courses, *PLAN.gains]:

    rule:
        name:
            name
        input:
            f"figures/{name}.svg",
        localrule: True

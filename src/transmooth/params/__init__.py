"""The only reader of params/: frozen, validated, with messages that name the file and the key.

recipes.yaml        WHAT      networks, recipes of training, evaluations
datasets.yaml                 where images come from
tables/<paper>.yaml WHICH     tables and figures, as rows of these names
studies/<name>.yaml HOW MUCH  datasets and schedules for the roles, network, n, seeds, shards
"""
